"""The HTTP side: routes, limits, and who may ask."""

import asyncio
import base64
import binascii
import functools
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ssah_jax.data.images import decode
from ssah_jax.data.source import DataError
from ssah_jax.retrieval.files import CodeFileError
from ssah_jax.run.image_encoder import ImageEncoder
from ssah_jax.run.serve.batching import Batcher, batch_encoder
from ssah_jax.run.serve.engine import Engine, Wanted
from ssah_jax.run.serve.openapi import MOST_RESULTS, description
from ssah_jax.run.serve.watching import Watch

MEGABYTE: Final = 1 << 20

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src "
    "'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action "
    "'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_STATIC: Final = {
    "/": ("page.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/docs.js": ("docs.js", "text/javascript"),
}
_DECODERS: Final = 4
_LOOK_EVERY: Final = 1.0
"""Seconds between looks at the file of the index."""


def make_app(
    engine: Engine,
    encoder: ImageEncoder,
    *,
    hosts: Sequence[str] = (),
    max_upload: int = 20 * MEGABYTE,
    watch: Watch | None = None,
) -> Starlette:
    """The application, for any ASGI server.

    Args:
        engine: of the index.
        encoder: of the model that the index is of.
        hosts: names by which it may be called, besides `localhost`, this machine's
            own, and any address in numbers.
        max_upload: bytes of an image that may be sent.
        watch: asked now and then for the engine of a changed index.
    """
    own = socket.gethostname().lower()
    names = {"localhost", own, f"{own}.local", *(host.lower() for host in hosts)}
    handlers = _Handlers(engine, encoder, max_upload=max_upload, watch=watch)
    app = Starlette(
        routes=[
            *(
                Route(path, functools.partial(_static, *file))
                for path, file in _STATIC.items()
            ),
            Route("/about", handlers.about),
            Route("/search", handlers.search, methods=["POST"]),
            Route("/images/{row:int}", handlers.image),
            Route("/duplicates", handlers.duplicates),
            Route("/openapi.json", handlers.openapi),
            # Browsers ask for it whatever a page says.
            Route("/favicon.ico", _nothing),
        ],
        exception_handlers={
            HTTPException: _problem,
            CodeFileError: _refused,
            DataError: _refused,
            ClientDisconnect: _gone,
            Exception: _broken,
        },
    )
    app.add_middleware(_Guard, names=names)
    return app


class _Guard:
    """Answers only those who call the server by its name, and says how to be shown.

    A page of a stranger whose name suddenly means this computer (DNS rebinding) could
    read the images otherwise.
    """

    def __init__(self, app: ASGIApp, names: set[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in _HEADERS.items()),
                ]
            await send(message)

        refusal = None
        if not self._is_known(host):
            refusal = f"host: found {host!r}, accepted are names of this server"
        elif origin is not None and origin.partition("://")[2] != host:
            refusal = f"origin: found {origin!r}, accepted is this server's own page"
        app = self._app if refusal is None else _error(403, refusal)
        await app(scope, receive, with_headers)

    def _is_known(self, host: str) -> bool:
        name = host.rpartition(":")[0] if _has_port(host) else host
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower().rstrip(".") in self._names
        return True


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdecimal() and not host.endswith("]")


class _Handlers:
    def __init__(
        self,
        engine: Engine,
        encoder: ImageEncoder,
        *,
        max_upload: int,
        watch: Watch | None,
    ) -> None:
        self._served, self._max_upload, self._watch = engine, max_upload, watch
        self._looked = time.monotonic()
        self._size, self._resize, self._channels = encoder.image_form
        features = engine.features is not None
        self._encoded = Batcher(batch_encoder(encoder, features=features))
        # Decoded images are large: few at a time.
        self._decoding = threading.Semaphore(_DECODERS)
        self._description = description(max_upload=max_upload)

    async def _engine(self, version: object = None) -> Engine:
        """Of the index as it is.

        Args:
            version: that a row's number is of; None where nobody says.
        """
        now = time.monotonic()
        if self._watch is not None and now - self._looked > _LOOK_EVERY:
            self._looked = now
            changed: Engine | None = await asyncio.to_thread(self._watch.engine)
            self._served = changed or self._served
        engine = self._served
        # Before another index comes, its rows have other numbers.
        current = await asyncio.to_thread(lambda: engine.version)
        if version not in (None, current):
            raise HTTPException(
                409, "index: it has changed since, and rows have other numbers; search"
            )
        return engine

    async def about(self, request: Request) -> Response:
        engine = await self._engine()
        about = await asyncio.to_thread(lambda: engine.about)
        more = {"index": engine.version, "max_upload": self._max_upload}
        return JSONResponse(about | more)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(self._description)

    async def search(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_image = kind.startswith("image/") or kind == "application/octet-stream"
        if kind != "application/json" and not is_image:
            raise HTTPException(
                415,
                f"content-type: found {kind!r}, accepted are image/..., "
                "application/octet-stream and application/json",
            )
        body = await self._body(request)
        query = request.query_params
        if is_image:
            row, version, content = None, None, body
            wanted = _wanted(
                query.get("k"), query.getlist("label"), query.getlist("path")
            )
        else:
            asked = _object(body)
            row, version = asked.get("row"), asked.get("index")
            content = _base64(asked)
            wanted = _wanted(
                asked.get("k"), asked.get("labels", []), asked.get("paths", [])
            )
        engine = await self._engine(version)
        about: dict[str, Any] = {"index": engine.version, "query": None}
        if row is not None:
            row = _row(row, engine)
            found = await asyncio.to_thread(engine.search_row, row, wanted)
            about["query"] = engine.image(row)
        else:
            image = await asyncio.to_thread(self._decoded, content)
            code, feature = await self._encoded(image)
            found = await asyncio.to_thread(
                functools.partial(engine.search, code, wanted, feature=feature)
            )
        return JSONResponse(about | {"results": found})

    async def image(self, request: Request) -> Response:
        engine = await self._engine(request.query_params.get("index"))
        row = _row(request.path_params["row"], engine, status=404)
        side = request.query_params.get("side", "small")
        if side not in ("small", "large"):
            raise HTTPException(422, f"side: found {side!r}, accepted: small, large")
        try:
            jpeg = await asyncio.to_thread(self._picture, engine, row, side)
        except DataError as error:
            raise HTTPException(404, str(error)) from error
        headers = {"cache-control": "private, max-age=300"}
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    async def duplicates(self, request: Request) -> Response:
        given = request.query_params.get("distance", "0")
        if not given.isascii() or not given.isdecimal() or len(given) > 9:
            raise HTTPException(422, f"distance: found {given!r}, accepted is a number")
        try:
            engine = await self._engine()
            found = await asyncio.to_thread(engine.duplicates, int(given))
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return JSONResponse({"index": engine.version} | found)

    async def _body(self, request: Request) -> bytes:
        # As base64 an image is a third larger.
        limit = self._max_upload
        if request.headers.get("content-type", "").startswith("application/json"):
            limit = 4 * limit // 3 + MEGABYTE
        length = request.headers.get("content-length", "")
        too_long = HTTPException(
            413,
            f"body: found more than {limit} bytes, accepted are images of up to "
            f"{self._max_upload}",
            headers={"connection": "close"},
        )
        if length.isdecimal() and int(length) > limit:
            raise too_long
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > limit:
                raise too_long
        return bytes(content)

    def _decoded(self, content: bytes) -> Any:
        with self._decoding:
            return decode(
                content,
                name="image",
                size=self._size,
                resize=self._resize,
                channels=self._channels,
            )

    def _picture(self, engine: Engine, row: int, side: str) -> bytes:
        with self._decoding:
            return engine.picture(row, side)


def _row(found: Any, engine: Engine, *, status: int = 422) -> int:
    count = len(engine.index.ids)
    if type(found) is not int or not 0 <= found < count:
        raise HTTPException(
            status, f"row: found {found!r:.40}, accepted is 0 to {count - 1}"
        )
    return found


def _wanted(k: Any, labels: Any, paths: Any) -> Wanted:
    number = 24 if k is None else k
    if isinstance(number, str) and number.isascii() and number.isdecimal():
        number = int(number[:9])
    if type(number) is not int or not 1 <= number <= MOST_RESULTS:
        raise HTTPException(
            422, f"k: found {number!r:.40}, accepted is 1 to {MOST_RESULTS}"
        )
    for name, found in (("labels", labels), ("paths", paths)):
        if not isinstance(found, list) or not all(isinstance(x, str) for x in found):
            raise HTTPException(422, f"{name}: expected a list of strings")
        if len(found) > 32 or any(len(text) > 1000 for text in found):
            raise HTTPException(422, f"{name}: found too much, accepted are 32")
    return Wanted(number, tuple(labels), tuple(paths))


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "body: found no JSON, expected an object") from error
    if not isinstance(found, dict) or ("row" in found) == ("image" in found):
        raise HTTPException(
            422, "body: expected an object with either row (a number) or image (base64)"
        )
    unknown = sorted(found.keys() - {"row", "index", "image", "k", "labels", "paths"})
    if unknown:
        raise HTTPException(
            422,
            f"body: found {unknown[0]!r:.40}, accepted are row, index, image, k, "
            "labels and paths",
        )
    return found


def _base64(asked: dict[str, Any]) -> bytes:
    text = asked.get("image", "")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise HTTPException(422, "image: found no base64, expected it") from error


def _error(status: int, message: str, **headers: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status, headers=headers)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, **(error.headers or {}))


async def _refused(request: Request, error: Exception) -> Response:
    """A mistake of who asks: an image that is none, a label that nobody has."""
    return _error(422, " ".join(str(error).split()))


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads this any more."""
    return _error(400, "the request ended too early")


async def _broken(request: Request, error: Exception) -> Response:
    return _error(500, "the server failed; its terminal says why")


async def _nothing(request: Request) -> Response:
    return Response(status_code=204)


async def _static(file: str, kind: str, request: Request) -> Response:
    return Response(_content(file), media_type=kind)


@functools.cache
def _content(file: str) -> bytes:
    return resources.files("ssah_jax.run.serve").joinpath("static", file).read_bytes()
