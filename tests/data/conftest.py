import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class FileServer(ThreadingHTTPServer):
    """A mirror on this machine that can misbehave and remembers what it was asked.

    ``files`` maps a path to its bytes. ``supports_range`` makes it answer Range requests.
    ``cut_after`` breaks a connection off after that many bytes of a body. ``headers`` go with
    every answer. ``requests`` lists (path, Range header or None).
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.supports_range = True
        self.cut_after: int | None = None
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        body = self.server.files.get(self.path)
        if body is None:
            self._answer(404, b"no such file")
        elif asked and self.server.supports_range:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self._answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            else:
                span = f"bytes {start}-{len(body) - 1}/{len(body)}"
                self._answer(206, body[start:], {"Content-Range": span})
        else:
            self._answer(200, body)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), **self.server.headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut_after])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def make_server() -> Iterator[Callable[[], FileServer]]:
    """A function that starts one more mirror; all are stopped at the end of the test."""
    running = []

    def start() -> FileServer:
        server = FileServer()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(make_server):
    return make_server()


@pytest.fixture
def dead_mirror() -> str:
    """The address of a mirror where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}/"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty download cache, no default data folder, and no proxy in between."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FIRSTSPIKE_CACHE", str(folder))
    monkeypatch.delenv("FIRSTSPIKE_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder
