"""Finding the members of a tar, of every format that GNU tar and tarfile write, wherever it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from schemas.errors import DataError
from schemas.shards import parse
from schemas.shards.header import BLOCK, padded
from schemas.shards.window import LARGE, Window

Reason = Literal[
    "directory",
    "link",
    "device",
    "sparse",
    "unknown_type",
    "no_extension",
    "metadata",
    "duplicate_key",
    "truncated",
    "bad_header",
    "trailing_data",
]

BROKEN: frozenset[Reason] = frozenset(("truncated", "bad_header", "trailing_data"))
"""Reasons that end a walk before the end of the file."""

_KINDS: dict[bytes, Reason] = {
    b"1": "link",
    b"2": "link",
    b"3": "device",
    b"4": "device",
    b"5": "directory",
    b"6": "device",
    parse.SPARSE: "sparse",
}
_MAX_EXTENDED = 1 << 20  # bytes of a long name or of PAX records; a longer one is garbage
_MAX_SPARSE_BLOCKS = 1 << 16
_SPAN = 16 << 10  # bytes that are scanned for plain members at once where runs of them are short
_USED = ("path", "size")


class Member(NamedTuple):
    """A regular file in a tar: its data are `size` bytes at `offset`."""

    name: str
    offset: int
    size: int


class Skipped(NamedTuple):
    """Something in a tar that cannot be used. `offset` is its header's; the name is empty if none is
    known."""

    name: str
    reason: Reason
    offset: int


class TruncatedShard(DataError):
    """A tar that cannot be read beyond `offset`; `reason` is one of BROKEN."""

    def __init__(self, path: str, offset: int, reason: Reason = "truncated") -> None:
        super().__init__(f"{path} is broken at byte {offset}: {reason}")
        self.args = (path, offset, reason)
        self.path = path
        self.offset = offset
        self.reason = reason


def scan(window: Window) -> Iterator[parse.Plain | Skipped]:
    """The members of a tar in runs, with absolute offsets; the window's buffer holds the last run's headers.

    See `walk` for what becomes of a tar that breaks.
    """
    offset = 0
    span = LARGE
    common: dict[str, bytes] = {}  # PAX records that hold for all further members
    while True:
        view = window.view(offset, BLOCK)
        if len(view) < BLOCK:
            yield Skipped("", "truncated", min(offset, window.size))
            return
        if view[0] == 0 and not any(view[:BLOCK]):
            yield from _after_end(window, offset)
            return
        run = None
        if view[156] == ord("0") and not common and len(view) >= _SPAN:
            run = parse.plain_members(view[:span], offset)
            # A run that stops early met something for `_member`: looking far ahead again would be wasted.
            span = min(4 * span, LARGE) if run and run.end >= offset + min(span, len(view)) else _SPAN
        found, after = (run, run.end) if run else _member(window, offset, common)
        if isinstance(found, Skipped):
            yield found
            if found.reason in BROKEN:
                return
            window.passed(after - offset, 1)
        elif found.starts[-1] + found.sizes[-1] <= window.size:
            yield found
            window.passed(after - offset, len(found.names))
        else:
            names, starts, sizes, _ = found
            if names[:-1]:
                yield parse.Plain(names[:-1], starts[:-1], sizes[:-1], starts[-1] - BLOCK)
            yield Skipped(names[-1], "truncated", starts[-1] - BLOCK)
            return
        offset = after


def _member(window: Window, offset: int, common: dict[str, bytes]) -> tuple[parse.Plain | Skipped, int]:
    """One member with the headers that extend it, and where the next one starts. Adds to `common`."""
    start = offset
    records: dict[str, bytes] = {}
    long_name = ""
    try:
        while True:
            block = window.take(offset, BLOCK)
            if len(block) < BLOCK:
                return Skipped(long_name, "truncated", start), offset
            head = parse.parse(block)
            offset += BLOCK
            if head.kind not in parse.EXTENDED:
                break
            if head.size > _MAX_EXTENDED:
                raise parse.BadHeader
            body = window.take(offset, head.size)
            if len(body) < head.size:
                return Skipped("", "truncated", start), offset
            offset += padded(head.size)
            if head.kind == b"L":
                long_name = parse.text(body)
            elif head.kind == b"g":
                common.update((key, value) for key, value in parse.pax_records(body).items() if key in _USED)
            elif head.kind != b"K":
                records.update(parse.pax_records(body))
        records = common | records
        name = parse.text(records.get("GNU.sparse.name") or records.get("path") or b"") or long_name or head.name
        size = _size(records["size"]) if "size" in records else head.size
    except parse.BadHeader:
        return Skipped("", "bad_header", start), offset
    if head.sparse_more:
        for _ in range(_MAX_SPARSE_BLOCKS):
            block = window.take(offset, BLOCK)
            offset += BLOCK
            if len(block) < BLOCK or not block[504]:
                break
    reason = _KINDS.get(head.kind, "unknown_type")
    if head.kind in parse.REGULAR:
        if not any(key.startswith("GNU.sparse.") for key in records):
            return parse.Plain([name], [offset], [size], offset + padded(size)), offset + padded(size)
        reason = "sparse"
    return Skipped(name, reason, start), offset + (0 if head.kind in parse.WITHOUT_DATA else padded(size))


def _size(value: bytes) -> int:
    if not value.isdigit():
        raise parse.BadHeader
    return int(value)


def _after_end(window: Window, offset: int) -> Iterator[Skipped]:
    """Nothing but zeros may follow the end of a tar: a second tar would be lost without a word."""
    end = offset
    while chunk := window.read(offset, LARGE):
        if chunk.count(0) < len(chunk):
            yield Skipped("", "trailing_data", end)
            return
        offset += len(chunk)
