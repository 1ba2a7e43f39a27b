"""The indexes over HTTP, on a port of this machine, in a thread of the test process."""

import json
import threading
from collections import defaultdict
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple
from urllib.parse import unquote

from tests.index import contents
from tests.index.wheels import Wheel


class IndexServer:
    """Serves `/simple/` (the default index) and `/whl/<backend>/` (PyTorch's); a context.

    As the real PyTorch server does, answers 403 rather than 404 for what it does not have under `/whl/`. `/mirror/` has
    the same, `/flat/<backend>/` one page of links. `/down/` is out of order, `/login/` answers all with a
    page for people, `/house/wheels/` is a mirror of one backend that does not say which, `/jp6/cu126/` NVIDIA's for
    Jetsons; `/dated/` before the rest of a path an index that tells when its files were uploaded.
    """

    fresh = 600
    """How many seconds an answer may be cached, as PyPI has it."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """The paths that were asked for, in order."""
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.index = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.default = f"{self.url}/simple"
        """The default index."""
        self.base = f"{self.url}/whl"
        """Where the backends' indexes are: what `UVTORCH_INDEX_BASE` names."""

    def __enter__(self) -> "IndexServer":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str) -> "Answer":
        """The answer to a GET."""
        self.requests.append(path)
        parts = [unquote(part) for part in path.partition("?")[0].split("/") if part]
        if parts and parts[0] in ("flat", *_ODD):
            return _ODD.get(parts[0]) or _flat(parts[1:])
        if parts[:1] == ["mirror"]:
            parts[0] = "whl"
        dated = parts[:1] == ["dated"]
        parts = parts[1:] if dated else parts
        missing = Answer(404, b"not found", "text/plain")
        index = ""
        if parts[:1] == ["whl"]:
            missing = Answer(403, b"access denied", "text/plain")
            parts.pop(0)
            if parts[:1] == ["nightly"]:
                parts[:2] = ["/".join(parts[:2])]
            index = parts[0] if parts else "none"
        if parts[:2] in (["house", "wheels"], ["jp6", "cu126"]):
            parts[:2] = ["/".join(parts[:2])]
            index = parts[0]
        served = ("", *contents.BACKENDS, contents.NIGHTLY, contents.HOUSE, contents.JETSON)
        wheels = _index(index) if index in served else {}
        if len(parts) == 2 and parts[1] in wheels:
            if not path.endswith("/"):
                return missing._replace(code=301)
            return _dated_page(index, parts[1]) if dated else Answer(200, _page(index, parts[1]), "text/html")
        if len(parts) == 3 and parts[1] in wheels:
            files = wheels[parts[1]]
            if parts[2] in files:
                return Answer(200, files[parts[2]].content, "application/octet-stream")
            name = parts[2].removesuffix(".metadata")
            if name in files:
                return Answer(200, files[name].metadata, "text/plain")
        return missing


class Answer(NamedTuple):
    """What the server says."""

    code: int
    body: bytes
    kind: str


_ODD = {
    "down": Answer(500, b"out of order", "text/plain"),
    "login": Answer(200, b"<html><body><h1>Sign in</h1></body></html>", "text/html"),
}


@cache
def _index(backend: str) -> dict[str, dict[str, Wheel]]:
    """Project -> file name -> wheel; `""` is the default index."""
    projects: dict[str, dict[str, Wheel]] = defaultdict(dict)
    for wheel in contents.pytorch_index(backend) if backend else contents.default_index():
        projects[wheel.name][wheel.filename] = wheel
    return dict(projects)


@cache
def _page(backend: str, project: str) -> bytes:
    links = "\n".join(wheel.link() for wheel in _index(backend)[project].values())
    return f"<!DOCTYPE html>\n<html><body>\n{links}\n</body></html>\n".encode()


def _flat(parts: list[str]) -> Answer:
    """One page of links for all of a backend, and none for a package."""
    if len(parts) != 1 or parts[0] not in contents.BACKENDS:
        return Answer(404, b"not found", "text/plain")
    wheels = [wheel for files in _index(parts[0]).values() for wheel in files.values()]
    return Answer(200, "\n".join(wheel.link() for wheel in wheels).encode(), "text/html")


@cache
def _dated_page(backend: str, project: str) -> Answer:
    """The page as JSON (PEP 691, PEP 700): torch from 2.10.0 on is of 2026, all else of 2025."""
    files = []
    for name, wheel in _index(backend)[project].items():
        recent = project == "torch" and int(wheel.version.split(".")[1]) >= 10
        day = f"{2026 if recent else 2025}-01-01T00:00:00Z"
        files.append({"filename": name, "url": name, "hashes": {}, "upload-time": day, "size": len(wheel.content)})
    page = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
    return Answer(200, json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json")


class _Http(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    index: IndexServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one segment
    server: _Http

    def do_GET(self) -> None:
        answer = self.server.index.answer(self.path)
        self.send_response(answer.code)
        self.send_header("Content-Type", answer.kind)
        if answer.code == 200:
            self.send_header("Cache-Control", f"max-age={self.server.index.fresh}")
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.code == 301:
            self.send_header("Location", self.path + "/")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
