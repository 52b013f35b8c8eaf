"""A stand-in for the server of Weights & Biases: what wandb sends to it is kept.

with Server() as server:
    … WANDB_BASE_URL=server.address …
    server.history("id of the run")      # all records that were logged, as sent
    server.config("id"); server.files["report.html"]; server.asked

It answers what wandb 0.31 asks over GraphQL, and takes files by PUT.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "biologists"


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients leave their connections open until they end."""


class Server:
    """Listens on a free port of this host, between `with` and its end."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []  # operations and their variables
        self.keys: set[str] = set()  # what requests were authorised with
        self.runs: dict[str, dict[str, Any]] = {}  # the first and the last word on each
        self.lines: dict[tuple[str, str], list[str]] = {}  # by run and stream
        self.files: dict[str, bytes] = {}
        self.exit_codes: dict[str, int] = {}
        self.status = 200  # of every answer
        self.refusal = ""  # of every question, with a status of 200 too
        self._lock = threading.Lock()
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                with own._lock:
                    said = own.take(self.path, self.headers.get("Authorization", ""), self.body())
                if own.refusal:
                    said = {"errors": [{"message": own.refusal}]}
                text = json.dumps(said).encode()
                self.send_response(own.status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                with contextlib.suppress(OSError):  # who asked is gone
                    self.wfile.write(text)

            def body(self) -> bytes:
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        data += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                packed = self.headers.get("Content-Encoding") == "gzip"
                return gzip.decompress(data) if packed else data

            do_GET = do_POST = do_PUT = answer

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    # ------------------------------------------------------------ what was sent

    def history(self, run: str) -> list[dict[str, Any]]:
        """Every record of a run that was logged, without what wandb adds."""
        records = [json.loads(line) for line in self.lines.get((run, "wandb-history.jsonl"), [])]
        return [{k: v for k, v in one.items() if not k.startswith("_")} for one in records]

    def config(self, run: str) -> dict[str, Any]:
        """The settings beside a run."""
        return {k: v["value"] for k, v in json.loads(self.runs[run]["config"]).items()}

    def operations(self, name: str) -> list[dict[str, Any]]:
        """The variables of each request of that name."""
        return [variables for asked, variables in self.asked if asked == name]

    # ------------------------------------------------------------ what is answered

    def take(self, path: str, key: str, body: bytes) -> dict[str, Any]:
        """Keep a request, and answer it."""
        if path == "/graphql":
            self.keys.add(key)
            request = json.loads(body)
            variables = request.get("variables") or {}
            match = re.search(r"\b(?:query|mutation)\s+(\w+)", request["query"])
            name = match[1] if match else ""
            self.asked.append((name, variables))
            return {"data": self._graphql(name, variables)}
        if path.startswith("/files/"):
            self._stream(path.split("/")[4], json.loads(body))
        elif path.startswith("/storage/"):
            self.files[path.removeprefix("/storage/")] = body
        return {}

    def _stream(self, run: str, said: dict[str, Any]) -> None:
        for name, part in said.get("files", {}).items():
            lines = self.lines.setdefault((run, name), [])
            lines[part["offset"] :] = part["content"]
        if "exitcode" in said:
            self.exit_codes[run] = said["exitcode"]

    def _url(self, name: str) -> str:
        return f"{self.address}/storage/{name}"

    def _graphql(self, name: str, v: dict[str, Any]) -> dict[str, Any]:
        if name == "UpsertBucket":
            known = self.runs.get(v["name"], {})
            self.runs[v["name"]] = known | {key: value for key, value in v.items() if value}
            return {"upsertBucket": {"bucket": self._bucket(v["name"]), "inserted": not known}}
        if name == "RunResumeStatus":
            project = {"id": "p", "name": v["project"], "entity": {"id": "e", "name": ENTITY}}
            return {"model": project | {"bucket": self._resumed(v["name"])}}
        if name == "Viewer":
            user = {"id": "u", "entity": ENTITY, "username": "me", "email": "", "flags": "{}"}
            return {"viewer": user | {"teams": {"edges": []}}}
        if name == "CreateRunFiles":
            files = [{"name": one, "uploadUrl": self._url(one)} for one in v["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if name == "ArtifactType":
            return {"project": {"artifact": None}}
        if name == "CreateArtifact":
            sequence = {"artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": {"id": "a", "state": "PENDING"} | sequence}}
        if name in ("CreateArtifactManifest", "UpdateArtifactManifest"):
            file = {"id": "f", "uploadUrl": self._url("manifest"), "uploadHeaders": []}
            return {name[0].lower() + name[1:]: {"artifactManifest": {"id": "m", "file": file}}}
        if name == "CreateArtifactFiles":
            nodes = [self._artifact_file(one["name"]) for one in v["input"]["artifactFiles"]]
            return {"createArtifactFiles": {"files": {"edges": nodes}}}
        if name == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}
        return {}

    def _artifact_file(self, name: str) -> dict[str, Any]:
        url = self._url(f"artifact/{name}")
        return {"node": {"storagePath": name, "uploadUrl": url, "uploadHeaders": [],
                         "uploadMultipartUrls": None, "artifact": {"id": "a"}}}  # fmt: skip

    def _bucket(self, run: str) -> dict[str, Any]:
        said = self.runs[run]
        project = {"id": "p", "name": said.get("project"), "entity": {"id": "e", "name": ENTITY}}
        lines = self.lines.get((run, "wandb-history.jsonl"), [])
        return {"id": "b", "name": run, "displayName": said.get("displayName"), "description": None,
                "config": said.get("config"), "sweepName": None, "project": project,
                "historyLineCount": len(lines)}  # fmt: skip

    def _resumed(self, run: str) -> dict[str, Any] | None:
        if run not in self.runs:
            return None
        counts = {
            f"{name}LineCount": len(self.lines.get((run, f"wandb-{name}.jsonl"), []))
            for name in ("history", "events")
        }
        tail = json.dumps(self.lines.get((run, "wandb-history.jsonl"), [])[-1:])
        return self._bucket(run) | counts | {
            "logLineCount": 0, "historyTail": tail, "eventsTail": "[]", "summaryMetrics": "{}",
            "tags": [], "runInfo": {"args": []},
        }  # fmt: skip
