"""What the local servers share: they answer to their own name alone, send ranges, and let nothing run but their own."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from schemas.errors import OmnicurateError, SampleError

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
# Nothing but what the server sends, and no scripts in it: text from data stays text whatever it holds.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class LocalServer(ThreadingHTTPServer):
    """A server for the person at this machine. Raises OmnicurateError when it cannot listen.

    port 0: any free one. On a loopback address only requests to that address are answered, or a page of somebody else
    could read the data under a name of its own (DNS rebinding).
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[Handler]) -> None:
        try:
            super().__init__((host, port), handler)
        except (OSError, OverflowError) as error:
            raise OmnicurateError(f"cannot listen at {host}:{port}: {error}", "give another address or port") from None
        self.url = f"http://{host}:{self.server_port}/"
        self._names = {f"{name}:{self.server_port}" for name in (host, "localhost", "127.0.0.1")}
        self._open = not _is_loopback(host)

    def answers_to(self, name: str | None) -> bool:
        """Whether requests with this Host header are answered."""
        return self._open or name in self._names


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Handler(BaseHTTPRequestHandler):
    """Sends answers with headers that keep a browser from running or leaking what is in them."""

    server: LocalServer
    protocol_version = "HTTP/1.1"

    def ours(self) -> bool:
        """Whether the request is to this server by name."""
        return self.server.answers_to(self.headers.get("Host"))

    def send(self, status: HTTPStatus, kind: str, content: bytes, more: dict[str, str] | None = None) -> None:
        """An answer in one piece, text in UTF-8."""
        self._head(status, f"{kind}; charset=utf-8", len(content), more or {})
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_ranges(self, kind: str, size: int, pieces: Callable[[int, int], Iterator[bytes]]) -> None:
        """The bytes that a Range header asks for, or all `size` of them. pieces: gives those from start to stop."""
        wanted = _RANGE.fullmatch(self.headers.get("Range", "").strip())  # other units are to be ignored
        span = (0, size) if wanted is None else _span(wanted[1], wanted[2], size)
        if span is None:
            unsatisfiable = {"Content-Range": f"bytes */{size}"}
            self.send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "text/plain", b"", unsatisfiable)
            return
        start, stop = span
        found = pieces(start, stop)
        try:
            first = next(found, b"")
        except (SampleError, OmnicurateError, OSError):
            self.send(HTTPStatus.NOT_FOUND, "text/plain", b"The medium is not where it was.")
            return
        more = {"Accept-Ranges": "bytes"}
        status = HTTPStatus.OK
        if wanted is not None:
            status = HTTPStatus.PARTIAL_CONTENT
            more["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._head(status, kind, stop - start, more)
        if self.command == "HEAD":
            return
        self.wfile.write(first)
        try:
            for piece in found:
                self.wfile.write(piece)
        except SampleError:
            self.close_connection = True  # the file changed under our hands: too late for another status

    def _head(self, status: HTTPStatus, kind: str, length: int, more: dict[str, str]) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(length), **_HEADERS, **more}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def handle_one_request(self) -> None:
        """A browser that has what it wanted may go at any time."""
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def version_string(self) -> str:
        """Who answers."""
        return "omnicurate"

    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal belongs to the user."""


def _span(first: str, last: str, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) between two ends of a Range header, of which one may be empty; None if there are none."""
    if first:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
    else:
        start, stop = max(0, size - int(last or 0)), size
    return (start, stop) if start < stop else None
