"""A local page on which one person accepts, edits and rejects the tasks of a queue.

It listens on the loopback address alone and answers only to its own name, so that no page from elsewhere can reach it.
Every decision is on disk before the next task is shown.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
from collections.abc import Iterator
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pipelines.review.decisions import Decision, decide, load, save
from pipelines.view.media import media_type
from pipelines.view.serving import Handler, LocalServer
from schemas.errors import DataError, OmnicurateError
from schemas.sample import KINDS, Part

_ASSETS = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_TASK = re.compile(r"/task/(\d{1,9})")
_MEDIUM = re.compile(r"/media/(\d{1,9})/([^/]+)")
_LARGEST_BODY = 4 << 20
_CHUNK = 1 << 20


def decisions_path(queue: str) -> Path:
    """Where the decisions about a queue are kept: `queue.jsonl` -> `queue.decisions.jsonl`."""
    return Path(os.path.abspath(queue)).with_suffix(".decisions.jsonl")


class Desk:
    """The tasks of a queue and what was decided about them so far."""

    def __init__(self, queue: str, reviewer: str) -> None:
        """Raises DataError for a file that is no queue, or whose decisions are damaged."""
        self.folder = Path(queue).resolve().parent
        self.tasks = _tasks(queue)
        self._reviewer = reviewer
        self._path = decisions_path(queue)
        self._saving = threading.Lock()
        self._decisions = {made.key: made for made in load(self._path)} if self._path.exists() else {}

    def next(self) -> int:
        """The first task without a decision, or the first of all."""
        return next((i for i, task in enumerate(self.tasks) if task["key"] not in self._decisions), 0)

    def shown(self, number: int) -> dict[str, Any]:
        """A task, its decision, and how far the work has come."""
        made = self._decisions.get(self.tasks[number]["key"])
        counts = {"number": number, "tasks": len(self.tasks), "decided": len(self._decisions)}
        return {"task": self.tasks[number], "decision": None if made is None else made.model_dump(), **counts}

    def decide(self, number: int, asked: dict[str, Any]) -> None:
        """Keep a decision, on disk before this returns. Raises ValueError for one that contradicts itself."""
        task = self.tasks[number]
        made = decide(task["key"], task.get("text"), asked, self._reviewer)
        if made is None:
            raise ValueError("there is no decision")
        with self._saving:
            decisions: dict[str, Decision] = {**self._decisions, made.key: made}
            save(self._path, (decisions[t["key"]] for t in self.tasks if t["key"] in decisions))
            self._decisions = decisions

    def medium(self, number: int, name: str) -> Path | None:
        """The file of a medium, if it is below the queue's folder."""
        media = self.tasks[number].get("media")
        found = media.get(name) if isinstance(media, dict) else None
        path = (self.folder / found).resolve() if isinstance(found, str) else self.folder
        return path if path.is_relative_to(self.folder) and path.is_file() else None


def _tasks(queue: str) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = []
    keys: set[str] = set()
    try:
        lines = Path(queue).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {queue}: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                task = json.loads(line)
            except ValueError:
                task = None
            key = task.get("key") if isinstance(task, dict) else None
            if not isinstance(key, str) or key in keys:
                raise DataError(
                    f"{queue}:{number}: not a task with a key of its own", "omnicurate review export makes queues"
                )
            keys.add(key)
            tasks.append(task)
    if not tasks:
        raise DataError(f"{queue} holds no tasks")
    return tasks


class Page(LocalServer):
    """Serves a desk on the loopback address."""

    def __init__(self, desk: Desk, port: int) -> None:
        super().__init__("127.0.0.1", port, _Handler)
        self.desk = desk


@contextlib.contextmanager
def review_page(queue: str, reviewer: str = "", port: int = 0) -> Iterator[Page]:
    """A page that listens; `serve_forever` answers. Raises OmnicurateError where another page has the same queue."""
    if not (os.path.isfile(queue) and os.access(queue, os.R_OK)):
        raise DataError(f"cannot read {queue}")
    with open(queue, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
        except OSError:
            raise OmnicurateError(f"{queue} is open in another page", "two pages would undo each other") from None
        with Page(Desk(queue, reviewer), port) as page:
            yield page


class _Handler(Handler):
    server: Page

    def do_GET(self) -> None:
        """The page, tasks and media."""
        if not self.ours():
            self.send(HTTPStatus.FORBIDDEN, "text/plain", f"This page is at {self.server.url}".encode())
        elif self.path in _ASSETS:
            name, kind = _ASSETS[self.path]
            self.send(HTTPStatus.OK, kind, _asset(name))
        elif self.path == "/next":
            self._json(self.server.desk.shown(self.server.desk.next()))
        elif (found := _TASK.fullmatch(self.path)) and self._known(found[1]):
            self._json(self.server.desk.shown(int(found[1])))
        elif (found := _MEDIUM.fullmatch(self.path)) and self._known(found[1]):
            self._medium(int(found[1]), unquote(found[2]))
        else:
            self.send(HTTPStatus.NOT_FOUND, "text/plain", b"There is nothing here.")

    def do_POST(self) -> None:
        """A decision. JSON alone is taken: a form on another page cannot send that."""
        found = _TASK.fullmatch(self.path)
        length = self.headers.get("Content-Length", "")
        origin = self.headers.get("Origin")
        self.close_connection = True  # what is refused may have a body that nobody reads
        if not self.ours() or (origin is not None and not self.server.answers_to(origin.removeprefix("http://"))):
            self.send(HTTPStatus.FORBIDDEN, "text/plain", b"")
        elif found is None or not self._known(found[1]):
            self.send(HTTPStatus.NOT_FOUND, "text/plain", b"")
        elif self.headers.get_content_type() != "application/json":
            self.send(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "text/plain", b"")
        elif not length.isdecimal() or int(length) > _LARGEST_BODY:
            self.send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", b"")
        else:
            self._decide(int(found[1]), self.rfile.read(int(length)))

    def _decide(self, number: int, body: bytes) -> None:
        try:
            asked = json.loads(body)
            if not isinstance(asked, dict):
                raise ValueError("not a decision")
            self.server.desk.decide(number, asked)
        except ValueError as error:
            self.send(HTTPStatus.BAD_REQUEST, "text/plain", str(error).encode())
        except OmnicurateError as error:
            self.send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", str(error).encode())
        else:
            self._json(self.server.desk.shown(number))

    def _known(self, number: str) -> bool:
        return int(number) < len(self.server.desk.tasks)

    def _medium(self, number: int, name: str) -> None:
        path = self.server.desk.medium(number, name)
        if path is None:
            self.send(HTTPStatus.NOT_FOUND, "text/plain", b"")
            return
        part = Part(name, path.suffix[1:].lower(), str(path), 0, path.stat().st_size)
        if part.format not in KINDS:
            self.send(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such medium.")
            return
        self.send_ranges(media_type(part), part.size, partial(_pieces, path))

    def _json(self, value: Any) -> None:
        self.send(HTTPStatus.OK, "application/json", json.dumps(value).encode())


def _pieces(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(_CHUNK, stop - start))):
            yield piece
            start += len(piece)


@cache
def _asset(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()
