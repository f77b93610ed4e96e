"""A stand-in for the Hugging Face hub's API, as far as creating a repository and uploading files needs it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """Repositories in memory.

    Attributes:
        repos: By kind and name: ``private`` and ``files`` (content by path).
        tokens: User of each token that may write.
        refused: Status that every upload is answered with instead; 0 to accept them.
        requests: Method and path of all requests.
    """

    def __init__(self, tokens):
        self.repos, self.tokens, self.refused, self.requests = {}, tokens, 0, []
        self.objects = {}  # large files by their hash
        self.url = ""


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def body(self):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self, status, value=None, **headers):
            content = json.dumps(value or {}).encode()
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def user(self):
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            return hub.tokens.get(token)

        def repo(self, path):
            kind, owner, name = path.split("/")[2:5]
            return hub.repos.get((kind.removesuffix("s"), f"{owner}/{name}"))

        def do_PUT(self):
            hub.requests.append(("PUT", self.path))
            content = self.body()
            oid = self.path.rpartition("/")[2]
            assert hashlib.sha256(content).hexdigest() == oid
            hub.objects[oid] = content
            self.answer(200)

        def do_GET(self):
            hub.requests.append(("GET", self.path))
            path = self.path.partition("?")[0]
            if path.startswith(("/api/models/", "/api/datasets/")):
                if (found := self.repo(path)) is None:
                    return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
                return self.answer(200, {"id": path, "sha": "0" * 40, "siblings": [], "private": found["private"]})
            return self.answer(404, {"error": "no such page"})

        do_HEAD = do_GET

        def do_POST(self):
            hub.requests.append(("POST", self.path))
            path, body = self.path.partition("?")[0], self.body()
            if self.user() is None:
                return self.answer(401, {"error": "Invalid username or password."})
            if hub.refused:
                return self.answer(hub.refused, {"error": "the hub refuses"})
            if path == "/api/validate-yaml":
                return self.answer(200, {"errors": [], "warnings": []})
            if path == "/api/repos/create":
                asked = json.loads(body)
                owner = asked.get("organization") or self.user()
                if owner != self.user():
                    return self.answer(403, {"error": f"You don't have the rights to create under {owner}"})
                key = (asked.get("type") or "model", f"{owner}/{asked['name']}")
                private = asked.get("private", asked.get("visibility") == "private")
                url = f"{hub.url}/{'datasets/' * (key[0] == 'dataset')}{key[1]}"
                if key in hub.repos:
                    return self.answer(409, {"error": "You already created this repo", "url": url})
                hub.repos[key] = {"private": private, "files": {}}
                return self.answer(200, {"url": url, "id": key[1], "name": key[1]})
            if path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {
                        "oid": o["oid"],
                        "size": o["size"],
                        "actions": {"upload": {"href": f"{hub.url}/upload/{o['oid']}", "header": {}}},
                    }
                    for o in json.loads(body)["objects"]
                ]
                return self.answer(200, {"transfer": "basic", "objects": objects})
            if "/preupload/" in path:
                files = json.loads(body)["files"]
                large = (".safetensors", ".parquet")
                modes = [
                    {
                        "path": f["path"],
                        "uploadMode": "lfs" if f["path"].endswith(large) else "regular",
                        "shouldIgnore": False,
                        "oid": None,
                    }
                    for f in files
                ]
                return self.answer(200, {"files": modes})
            if "/commit/" in path:
                files = self.repo(path)["files"]
                for line in map(json.loads, body.decode().splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        files[value["path"]] = hub.objects[value["oid"]]
                where = "/".join(path.split("/")[3:5])
                url = f"{hub.url}/{where}/commit/{'1' * 40}"
                return self.answer(200, {"commitUrl": url, "commitOid": "1" * 40, "success": True})
            return self.answer(404, {"error": f"no such call: {path}"})

    return Handler


@contextmanager
def local_hub(**tokens):
    """Serves a hub whose tokens and users are given, as ``token="user"``."""
    hub = Hub(tokens)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
