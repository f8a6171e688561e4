"""ingest.jsonl: one JSON object in each line. Large files are cut into byte ranges."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, BinaryIO, cast

from pydantic import Field

from schemas.recipe import Bytes
from stages.base import Origin, Reject, options
from stages.ingest.paths import InputFile, find_files, open_file
from stages.ingest.tables import HEAD_BYTES, HEAD_ROWS, Table

_LONGEST = 256 << 20  # a file without line ends must not fill the memory
_BROKEN_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)


@options
class Jsonl(Table):
    """JSON lines, plain or gzipped. Broken lines are rejected one by one.

    Without `id`, a row's key ends in the byte at which its line starts (after decompression): that is known without
    reading what comes before, and stays when lines are appended. `tail -c +$((BYTE + 1)) | head -1` shows the line.
    Rejects of lines say which it is: `line 17`, or `byte 1234` in the later pieces of a large file.
    """

    extensions = ("jsonl", "ndjson", "jsonl.gz", "ndjson.gz")
    reasons = (
        *Table.reasons,
        "broken_json",
        "not_utf8",
        "not_an_object",
        "line_too_long",
        "lone_surrogate",
        "broken_gzip",
    )

    range: Annotated[Bytes, Field(ge=1)] = 64 << 20
    """Larger files are read in pieces of so many bytes, in parallel; gzipped ones cannot be."""

    def origins(self) -> Iterator[Origin]:
        """Byte ranges; a line belongs to the range in which it starts."""
        for file in find_files(self.path, self.extensions):
            if file.name.endswith(".gz") or file.size <= self.range:
                yield file.origin()
                continue
            for start in range(0, file.size, self.range):
                yield file.origin(start, min(file.size, start + self.range))

    def head(self, file: InputFile) -> Iterator[dict[str, Any]]:
        """The first objects of a file."""
        first = islice(self.rows(file.origin(0, HEAD_BYTES)), HEAD_ROWS)
        return (row for _, row in first if isinstance(row, dict))

    def rows(self, origin: Origin) -> Iterator[tuple[str, dict[str, Any] | Reject]]:
        """Objects with the byte at which their line starts."""
        with open_file(origin.uri) as raw:
            file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if origin.name.endswith(".gz") else raw
            end = origin.end or (1 << 62)
            offset, number = origin.start, 0
            if offset:
                file.seek(offset - 1)  # the line that starts at `start` is ours, one that crosses it is not
                offset += sum(map(len, _line(file))) - 1
            while offset < end:
                number += 1
                where = f"byte {offset}" if origin.start else f"line {number}"
                try:
                    line = file.readline(_LONGEST)
                except _BROKEN_GZIP:
                    yield f"{offset:012d}", Reject("broken_gzip", where)
                    return
                if not line:
                    return
                place, offset = f"{offset:012d}", offset + len(line)
                if len(line) == _LONGEST and line[-1:] != b"\n":
                    offset += sum(map(len, _line(file)))
                    yield place, Reject("line_too_long", where)
                elif not line.isspace():
                    row = parse_object(line)
                    yield place, row._replace(detail=where) if type(row) is Reject else row


def _line(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a line, in pieces."""
    while piece := file.readline(1 << 20):
        yield piece
        if piece.endswith(b"\n"):
            return


def parse_object(data: bytes) -> dict[str, Any] | Reject:
    """A JSON object, or why it is none."""
    try:
        text = data.decode("utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else "utf-8")
    except UnicodeDecodeError:
        return Reject("not_utf8")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Reject("broken_json")
    if not isinstance(value, dict):
        return Reject("not_an_object")
    if "\\ud" in text or "\\uD" in text:  # half of a pair cannot be written anywhere
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Reject("lone_surrogate")
    return value
