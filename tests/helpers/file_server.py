"""A server of files on this machine, and what it was asked for."""

import contextlib
import http.server
import threading


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by name, in ranges too; sends half where `cut`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut = False

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        name = self.path.rpartition("/")[2]
        self.server.asked.append((name, wanted))
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) // 2 if self.server.cut else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *arguments) -> None:
        pass


@contextlib.contextmanager
def serving(server=Server):
    """A server, of this kind, that answers until the end of the block."""
    with server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()
