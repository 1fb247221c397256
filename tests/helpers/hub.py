"""A stand-in for the Hugging Face hub: takes a commit, and gives its files back."""

import base64
import hashlib
import http.server
import json


class Hub(http.server.ThreadingHTTPServer):
    """Repositories by name, each a dictionary of files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.refuses = False

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


COMMIT = "0123456789012345678901234567890123456789"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status=200, body=b"", **headers) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, url = self.path.partition("?")[0], self.server.endpoint
        if self.server.refuses:
            return self.answer(403, {"error": "no\nentry"})
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            return self.answer(body={"url": f"{url}/{name}"})
        if path == "/api/validate-yaml":
            return self.answer(body={"errors": [], "warnings": []})
        name = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(content)["files"]
            ]
            return self.answer(body={"files": files})
        if "/commit/" in path:
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    data = base64.b64decode(value["content"])
                    self.server.repositories[name][value["path"]] = data
            done = {"commitUrl": f"{url}/{name}/commit/{COMMIT}", "commitOid": COMMIT}
            return self.answer(body={"success": True, **done})
        return self.answer(404)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            return self.answer(body={"id": path[12:], "sha": COMMIT, "siblings": []})
        if path.count("/") < 5:
            return self.answer(404)
        owner, name, _, _, file = path[1:].split("/", 4)
        content = self.server.repositories.get(f"{owner}/{name}", {}).get(file)
        if content is None:
            return self.answer(404, X_Error_Code="EntryNotFound")
        etag = hashlib.sha1(content).hexdigest()
        return self.answer(body=content, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET

    def log_message(self, *arguments) -> None:
        pass
