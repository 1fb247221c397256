"""`ssah serve`: a page on this computer to search an index with."""

import argparse
import errno
import importlib.util
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ssah_jax.cli.arguments import add_index, add_root
from ssah_jax.cli.encoders import add_encoder, check_encoder, load_encoder
from ssah_jax.cli.two_stages import add_two_stages, check_two_stages, load_features
from ssah_jax.retrieval.index import check_fingerprint, load_index

if TYPE_CHECKING:
    import starlette.applications


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah serve`."""
    parser.epilog = (
        "Nobody but this computer can ask, unless --host says so; whoever can,\n"
        "may see all indexed images. Ctrl-C stops. Needs the extra: pip install "
        "'ssah-jax[serve]'."
    )
    add_encoder(parser)
    add_index(parser)
    add_two_stages(parser)
    add_root(parser, shut=True)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen at: 127.0.0.1 (default), or 0.0.0.0 for all who "
        "can reach this computer",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8765,
        help="to listen at (default: 8765); 0 takes any that is free",
    )
    parser.add_argument(
        "--max-upload",
        metavar="MB",
        type=int,
        default=20,
        help="the largest image that may be sent, in megabytes (default: 20)",
    )


def run(options: argparse.Namespace) -> int:
    """Runs `ssah serve`.

    Args:
        options: of the arguments above.

    Returns:
        0, once it is stopped.

    Raises:
        UserError: arguments, run or index do not fit, the port is taken, or the extra
            is not installed.
    """
    from ssah_jax.cli.errors import UserError, setting_up

    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"ssah serve: found no {package}, expected the extra: pip install "
                "'ssah-jax[serve]'"
            )
    with setting_up():
        check_encoder(options)
        for name, value, least, most in (
            ("--port", options.port, 0, 65535),
            ("--max-upload", options.max_upload, 1, 1024),
        ):
            if not least <= value <= most:
                raise UserError(f"{name}: found {value}, accepted is {least} to {most}")
        check_two_stages(options)
        if options.root is not None and not Path(options.root).is_dir():
            raise UserError(f"--root: found no folder {options.root}, expected one")
        # Before the seconds that loading takes.
        listening = _listen(options.host, options.port)
    with listening:
        from ssah_jax.run.serve.app import MEGABYTE, make_app
        from ssah_jax.run.serve.batching import warm_up
        from ssah_jax.run.serve.engine import Engine
        from ssah_jax.run.serve.watching import Watch

        root, path = options.root and Path(options.root), Path(options.index)
        reranks = options.rerank is not None

        def load() -> Engine:
            index = load_index(path)
            check_fingerprint(index, encoder.fingerprint)
            return Engine(
                index,
                root=root,
                features=load_features(options, index) if reranks else None,
                oversample=options.rerank or 1,
            )

        with setting_up():
            # First: what changes while it is loaded has changed.
            watch = Watch(path, load, lambda line: print(line, flush=True))
            encoder = load_encoder(options)
            engine = load()
            encoder.image_form  # noqa: B018  Raises where it takes no images.
        app = make_app(
            engine,
            encoder,
            hosts=(options.host,),
            max_upload=options.max_upload * MEGABYTE,
            watch=watch,
        )
        warm_up(encoder, features=reranks)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(
            f"{len(engine.index.ids)} images at http://{shown}:{port} (Ctrl-C stops)",
            flush=True,
        )
        _serve(app, listening)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, and whose port nobody else has.

    Raises:
        UserError: the port is taken, or there is no such address here.
    """
    from ssah_jax.cli.errors import UserError

    try:
        family, kind, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host: found {host!r}, expected an address") from error
    listening = socket.socket(family, kind)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"--port: found {port} taken by another program, accepted is a free "
                "one (0 takes any)"
            ) from error
        raise UserError(
            f"--host, --port: found {host} and {port} ({error.strerror}), expected an "
            "address of this computer and a port that may be listened at"
        ) from error
    return listening


def _serve(app: "starlette.applications.Starlette", listening: socket.socket) -> None:
    """Answers until Ctrl-C or SIGTERM."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=256,
        timeout_graceful_shutdown=3,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        print("stopped")
