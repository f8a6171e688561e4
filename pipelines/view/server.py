"""The server of the viewer: pages over an index that is never loaded, and media by byte ranges."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import threading
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.inspect.dataset import DataSet, query
from pipelines.view.columns import facets
from pipelines.view.html import document, element
from pipelines.view.media import Media, kind_of, media_type, parts_of
from pipelines.view.page import TABLES, Request, page
from schemas.errors import OmnicurateError, SampleError
from schemas.sample import Part
from schemas.store import Store

_ASSETS = {"/cards.css": "text/css", "/page.css": "text/css", "/page.js": "text/javascript"}
_MEDIUM = re.compile(r"/media/(samples|rejects)/(\d{1,9})\.(\d{1,15})/([^/]+)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# Nothing but what this server sends, and no scripts in it: text from data stays text whatever it holds.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; media-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Viewer(ThreadingHTTPServer):
    """Serves one data set. Raises OmnicurateError when it cannot listen.

    store: where media of rejects are that a run made. port 0: any free one. On a loopback address only requests to that
    address are answered, or a page of somebody else could read the data under a name of its own (DNS rebinding).
    """

    daemon_threads = True

    def __init__(self, data: DataSet, connection: Any, store: Store, host: str, port: int) -> None:
        self.data = data
        self.media = {table: Media(data, table, store) for table in TABLES}
        self._connection: Any = connection
        self._cursors: set[Any] = set()
        self._cursors_change = threading.Condition()
        self._counting = threading.Lock()
        self._facets: dict[str, Any] = {}
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OmnicurateError(f"cannot listen at {host}:{port}: {error}", "give another --host or --port") from None
        self.url = f"http://{host}:{self.server_port}/"
        self._names = {f"{name}:{self.server_port}" for name in (host, "localhost", "127.0.0.1")}
        self._open = not _is_loopback(host)

    def answers_to(self, name: str | None) -> bool:
        """Whether requests with this Host header are answered."""
        return self._open or name in self._names

    @contextlib.contextmanager
    def cursor(self) -> Iterator[Any]:
        """A connection for one request; errors of DuckDB become those of Omnicurate."""
        with self.data.explained():
            with self._cursors_change:  # DuckDB refuses to open two at a time
                if self._connection is None:
                    raise OmnicurateError("the viewer has ended")
                cursor = self._connection.cursor()
                self._cursors.add(cursor)
            try:
                yield cursor
            finally:
                with self._cursors_change:
                    cursor.close()
                    self._cursors.discard(cursor)
                    self._cursors_change.notify_all()

    def server_close(self) -> None:
        """Stop to listen, and end what is still being answered: DuckDB refuses to close while a query runs."""
        super().server_close()
        with self._cursors_change:
            self._connection = None
            for cursor in self._cursors:
                cursor.interrupt()
            self._cursors_change.wait_for(lambda: not self._cursors)

    def facets(self, cursor: Any) -> dict[str, Any]:
        """What can be picked by in each table; counted once, since versions do not change."""
        with self._counting:
            for table in TABLES:
                if table not in self._facets:
                    self._facets[table] = facets(cursor, table)
        return self._facets


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def viewer(data: DataSet, store: Store, host: str = "127.0.0.1", port: int = 0) -> Iterator[Viewer]:
    """A viewer that listens; `serve_forever` answers."""
    with data.connect() as connection, Viewer(data, connection, store, host, port) as server:
        yield server


class _Handler(BaseHTTPRequestHandler):
    server: Viewer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Pages, assets and media."""
        try:
            self._answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the browser has what it wanted

    do_HEAD = do_GET

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        if not self.server.answers_to(self.headers.get("Host")):
            self._message(HTTPStatus.FORBIDDEN, f"This viewer is at {self.server.url}")
        elif path == "/":
            self._page()
        elif path in _ASSETS:
            self._send(HTTPStatus.OK, _ASSETS[path], _asset(path))
        elif medium := _MEDIUM.fullmatch(path):
            table, file, row, name = medium.groups()
            self._medium(table, int(file), int(row), unquote(name))
        else:
            self._message(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _page(self) -> None:
        request = Request.parse(urlsplit(self.path).query)
        try:
            with self.server.cursor() as cursor:
                content = page(self.server.data, cursor, self.server.facets(cursor), request)
        except OmnicurateError as error:
            self._message(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            return
        self._send(HTTPStatus.OK, "text/html", content)

    def _medium(self, table: str, file: int, row: int, name: str) -> None:
        part = self._part(table, file, row, name)
        if part is None or kind_of(part) is None:
            self._message(HTTPStatus.NOT_FOUND, "There is no such medium.")
            return
        span = _span(self.headers.get("Range"), part.size)
        start, stop = span or (0, part.size)
        if span and start >= stop:
            unsatisfiable = {"Content-Range": f"bytes */{part.size}"}
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "text/plain", b"", unsatisfiable)
            return
        pieces = self.server.media[table].pieces(part, start, stop)
        try:
            first = next(pieces, b"")
        except (SampleError, OmnicurateError, OSError):
            self._message(HTTPStatus.NOT_FOUND, "The medium is not where it was.")
            return
        partial = {"Content-Range": f"bytes {start}-{stop - 1}/{part.size}"} if span else {}
        more = {"Accept-Ranges": "bytes", **partial}
        status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
        self._head(status, media_type(part), stop - start, more)
        if self.command == "HEAD":
            return
        self.wfile.write(first)
        try:
            for piece in pieces:
                self.wfile.write(piece)
        except SampleError:
            self.close_connection = True  # the file changed under our hands: too late for another status

    def _part(self, table: str, file: int, row: int, name: str) -> Part | None:
        try:
            with self.server.cursor() as cursor:
                where = f"WHERE _file = {file} AND _row = {row}"
                found = query(cursor, f"SELECT parts FROM _{table} {where}").to_pylist()
        except OmnicurateError:
            return None
        return parts_of(found[0]).get(name) if found else None

    def _message(self, status: HTTPStatus, text: str) -> None:
        body = element("body", element("h1", status.phrase), element("p", text))
        self._send(status, "text/html", document(status.phrase, element("link", rel="icon", href="data:,"), body))

    def _send(self, status: HTTPStatus, kind: str, content: bytes, more: dict[str, str] | None = None) -> None:
        self._head(status, f"{kind}; charset=utf-8", len(content), more or {})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, length: int, more: dict[str, str]) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(length), **_HEADERS, **more}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def version_string(self) -> str:
        """Who answers."""
        return "omnicurate"

    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal belongs to the user."""


@cache
def _asset(path: str) -> bytes:
    return (Path(__file__).parent / path.lstrip("/")).read_bytes()


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that a Range header asks for; None without one, or where it is of another kind."""
    wanted = _RANGE.fullmatch(header.strip()) if header else None
    if wanted is None or wanted.groups() == ("", ""):
        return None
    first, last = wanted.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)
