"""The server of the viewer: pages over an index that is never loaded, and media by byte ranges."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.inspect.dataset import DataSet, query
from pipelines.view.columns import facets
from pipelines.view.html import document, element
from pipelines.view.media import Media, kind_of, media_type, parts_of
from pipelines.view.page import TABLES, Request, page
from pipelines.view.serving import Handler, LocalServer
from schemas.errors import OmnicurateError
from schemas.sample import Part
from schemas.store import Store

_ASSETS = {"/cards.css": "text/css", "/page.css": "text/css", "/page.js": "text/javascript"}
_MEDIUM = re.compile(r"/media/(samples|rejects)/(\d{1,9})\.(\d{1,15})/([^/]+)")


class Viewer(LocalServer):
    """Serves one data set. store: where media of rejects are that a run made."""

    def __init__(self, data: DataSet, connection: Any, store: Store, host: str, port: int) -> None:
        self.data = data
        self.media = {table: Media(data, table, store) for table in TABLES}
        self._connection: Any = connection
        self._cursors: set[Any] = set()
        self._cursors_change = threading.Condition()
        self._counting = threading.Lock()
        self._facets: dict[str, Any] = {}
        super().__init__(host, port, _Handler)

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


@contextlib.contextmanager
def viewer(data: DataSet, store: Store, host: str = "127.0.0.1", port: int = 0) -> Iterator[Viewer]:
    """A viewer that listens; `serve_forever` answers."""
    with data.connect() as connection, Viewer(data, connection, store, host, port) as server:
        yield server


class _Handler(Handler):
    server: Viewer

    def do_GET(self) -> None:
        """Pages, assets and media."""
        path = urlsplit(self.path).path
        if not self.ours():
            self._message(HTTPStatus.FORBIDDEN, f"This viewer is at {self.server.url}")
        elif path == "/":
            self._page()
        elif path in _ASSETS:
            self.send(HTTPStatus.OK, _ASSETS[path], _asset(path))
        elif medium := _MEDIUM.fullmatch(path):
            table, file, row, name = medium.groups()
            self._medium(table, int(file), int(row), unquote(name))
        else:
            self._message(HTTPStatus.NOT_FOUND, "There is nothing here.")

    do_HEAD = do_GET

    def _page(self) -> None:
        request = Request.parse(urlsplit(self.path).query)
        try:
            with self.server.cursor() as cursor:
                content = page(self.server.data, cursor, self.server.facets(cursor), request)
        except OmnicurateError as error:
            self._message(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            return
        self.send(HTTPStatus.OK, "text/html", content)

    def _medium(self, table: str, file: int, row: int, name: str) -> None:
        part = self._part(table, file, row, name)
        if part is None or kind_of(part) is None:
            self._message(HTTPStatus.NOT_FOUND, "There is no such medium.")
            return
        self.send_ranges(media_type(part), part.size, partial(self.server.media[table].pieces, part))

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
        self.send(status, "text/html", document(status.phrase, element("link", rel="icon", href="data:,"), body))


@cache
def _asset(path: str) -> bytes:
    return (Path(__file__).parent / path.lstrip("/")).read_bytes()
