"""ingest.jsonl: one JSON object in each line. Large files are cut into byte ranges."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from schemas.recipe import Bytes
from stages.base import New, Origin, Reject, options
from stages.ingest.paths import InputFile, find_files, open_file, unusable
from stages.ingest.tables import HEAD_BYTES, HEAD_ROWS, Table

_LONGEST = 256 << 20  # a file without line ends must not fill the memory
_BLOCK = 4 << 20
_PLAIN = {"string", "int", "float", "bool"}
_AFTER_OBJECT = re.compile(rb"\}[ \t\r]*[^ \t\r\n,}\]]")  # something stands behind an object (or in a string)
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

    def read(self, origin: Origin) -> Iterator[New | Reject | pa.Table]:
        """A table for each block of lines that are as regular as the columns say, else a result for each line."""
        schema = self._regular
        if schema is None or origin.name.endswith(".gz") or unusable(origin):
            yield from super().read(origin)
            return
        stem = InputFile(origin.name, origin.uri, 0, "").stem
        with open_file(origin.uri) as file:
            offset, end = _first_line(file, origin.start), origin.end or (1 << 62)
            while offset < end:
                block = file.read(min(_BLOCK, end - offset))
                if block and block[-1:] != b"\n":
                    block += file.readline(_LONGEST)  # a line belongs to the range in which it starts
                if not block:
                    return
                if len(block) >= _LONGEST:
                    yield from super().read(origin._replace(start=offset))
                    return
                table = regular_lines(block, schema)
                keys = None if table is None else self._keys(table, block, stem, offset)
                if table is None or keys is None:
                    yield from super().read(origin._replace(start=offset, end=offset + len(block)))
                else:
                    yield table.append_column("extra", pa.nulls(len(table), pa.string())).append_column("key", keys)
                offset += len(block)

    @property
    def _regular(self) -> pa.Schema | None:
        """The schema of lines that can be read many at a time: plain values alone, no media to look for."""
        kinds = self.fields.kinds
        if self.media or not kinds or not set(kinds.values()) <= _PLAIN or (self.id and self.id not in kinds):
            return None
        types = self.fields.types()
        del types["extra"]  # what a field of that name brings is not taken as it is
        return pa.schema(list(types.items())) if types else None

    def _keys(self, table: pa.Table, block: bytes, stem: str, offset: int) -> pa.Array | None:
        """The local ids of the rows, or None where one is missing."""
        if self.id is None:
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)[: len(table) - 1] + 1
            starts = np.concatenate([[0], ends]) + offset
            return pa.array([f"{stem}/{start:012d}" for start in starts.tolist()])
        ids = table.column(self.id).combine_chunks().cast(pa.string())
        return None if ids.null_count or pc.any(pc.equal(ids, "")).as_py() else ids

    def head(self, file: InputFile) -> Iterator[dict[str, Any]]:
        """The first objects of a file."""
        first = islice(self.rows(file.origin(0, HEAD_BYTES)), HEAD_ROWS)
        return (row for _, row in first if isinstance(row, dict))

    def rows(self, origin: Origin) -> Iterator[tuple[str, dict[str, Any] | Reject]]:
        """Objects with the byte at which their line starts."""
        with open_file(origin.uri) as raw:
            file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if origin.name.endswith(".gz") else raw
            end = origin.end or (1 << 62)
            offset, number = _first_line(file, origin.start), 0
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


def regular_lines(block: bytes, schema: pa.Schema) -> pa.Table | None:
    """Whole lines as a table where each is one object with fields of the schema and values of its types, else None.

    What pyarrow's reader takes and `parse_object` does not (two objects in a line, bytes that are no UTF-8) is left to
    the latter, so that both ways give the same rows.
    """
    from pyarrow import json as arrow_json

    lines = block.count(b"\n") + (block[-1:] != b"\n")
    begun = block.startswith(b"{") + block.count(b"\n{")
    if begun != lines or _AFTER_OBJECT.search(block):
        return None  # pyarrow 26 crashes on values beside objects, `null` above all
    parse = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    read = arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1)
    try:
        block.decode()
        table = arrow_json.read_json(pa.BufferReader(block), read_options=read, parse_options=parse)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    if len(table) != lines:
        return None
    empty = np.logical_and.reduce([column.is_null().to_numpy() for column in table.columns])
    return None if empty.any() else table


def _first_line(file: BinaryIO, start: int) -> int:
    """Go to the first line that starts at `start` or later; where that is. One that crosses `start` is not ours."""
    if not start:
        return 0
    file.seek(start - 1)
    return start + sum(map(len, _line(file))) - 1


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
