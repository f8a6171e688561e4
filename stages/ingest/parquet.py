"""ingest.parquet: row groups of parquet files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from schemas.columns import type_of
from schemas.errors import nearest
from stages.base import Origin, Reject, options
from stages.ingest.fields import infer
from stages.ingest.paths import InputFile, find_files, open_file
from stages.ingest.tables import Table

_BATCH = 1024  # rows turned into Python objects at once
_MOST_BYTES = 1024  # of a column in a row, as base64 in `extra`
_HEAD_ROWS = 16


@options
class Parquet(Table):
    """Parquet files, one row group after another. A row's key ends in its number within the file from 0 on.

    Whole numbers, floats, booleans and text keep their kind; dates and decimals become text; lists of these stay
    lists; anything nested becomes JSON text. Bytes (a digest, say) stand in `extra` as base64 text. They are no place
    for media, which need files of their own: a column with more than 1 KiB of bytes in a row stops the recipe until
    `skip` names it, and where only some rows have so many, those are rejected as `many_bytes`.
    """

    extensions = ("parquet",)
    reasons = (*Table.reasons, "broken_table", "many_bytes")

    skip: list[str] = Field(default_factory=list)
    """Columns that are not read at all."""

    def check(self) -> Iterator[str]:
        """Also columns of bytes in the first file that are too large for `extra`, and `skip` where it names none."""
        found = list(super().check())
        yield from found
        file = None if found else next((file for file in find_files(self.path, self.extensions) if file.tag), None)
        if file is None:
            return
        try:
            with open_file(file.uri) as handle:
                table = pq.ParquetFile(handle)
                names = table.schema_arrow.names
                held = [field.name for field in table.schema_arrow if _holds_bytes(field.type)]
                held = [name for name in held if name not in self.skip]
                batches = table.iter_batches(_HEAD_ROWS, columns=held) if held else iter(())
                head: dict[str, list[Any]] = next((batch.to_pydict() for batch in batches), {})
        except (OSError, pa.ArrowException):
            return
        for name in self.skip:
            if name not in names:
                yield f"`skip` names {name!r}, which {file.name} has not; {nearest(name, names)}"
        for name, values in head.items():
            sizes = [_count(value) for value in values if value is not None]
            if sum(sizes) > _MOST_BYTES * len(sizes):
                yield (
                    f"the column {name!r} holds bytes (about {sum(sizes) // len(sizes)} in a row), which no column can "
                    f"hold: leave it out with `skip: [{name}]`, or make files of them and name their paths in `media`"
                )

    def origins(self) -> Iterator[Origin]:
        """Ranges of rows: neighbouring row groups together, until they have `unit` rows."""
        for file in find_files(self.path, self.extensions):
            try:
                with open_file(file.uri) as handle:
                    metadata = pq.read_metadata(handle)
            except (OSError, pa.ArrowException):
                yield file.origin()
                continue
            start = end = 0
            for group in range(metadata.num_row_groups):
                end += metadata.row_group(group).num_rows
                if end - start >= self.unit:
                    yield file.origin(start, end)
                    start = end
            if end > start:
                yield file.origin(start, end)

    def infer(self, file: InputFile) -> dict[str, str]:
        """The file's own types."""
        try:
            with open_file(file.uri) as handle:
                schema = pq.read_schema(handle)
        except (OSError, pa.ArrowException):
            return {}
        kinds = {field.name: _kind(field.type) for field in schema}
        examples = {name: _EXAMPLES[kind] for name, kind in kinds.items() if kind}
        return infer([examples])  # the rules for canonical and for impossible names are the same

    def rows(self, origin: Origin) -> Iterator[tuple[str, dict[str, Any] | Reject]]:
        """The rows of a range of row groups."""
        try:
            with open_file(origin.uri) as handle:
                yield from self._rows(pq.ParquetFile(handle), origin)
        except (pa.ArrowException, OSError):
            yield f"{origin.start:09d}-broken", Reject("broken_table")

    def _rows(self, file: pq.ParquetFile, origin: Origin) -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        groups = []
        for group in range(file.metadata.num_row_groups):
            if origin.start <= number < (origin.end or 1 << 62):
                groups.append(group)
            number += file.metadata.row_group(group).num_rows
        skip = set(self.skip)
        fields = [f for f in file.schema_arrow if f.name not in skip and (_kind(f.type) or _holds_bytes(f.type))]
        names = [field.name for field in fields]
        held = [field.name for field in fields if _holds_bytes(field.type)]
        number = origin.start
        for batch in file.iter_batches(_BATCH, groups, columns=names):
            columns = [self._plain(name, column) for name, column in zip(names, batch.columns, strict=True)]
            for values in zip(*columns, strict=True):
                row = dict(zip(names, values, strict=True))
                large = next((name for name in held if isinstance(row[name], Reject)), None)
                yield f"{number:09d}", row if large is None else row[large]
                number += 1

    def _plain(self, name: str, column: pa.Array) -> list[Any]:
        """Values that JSON could hold, of the column's declared kind where that is possible without loss."""
        kind = _kind(column.type)
        if _holds_bytes(column.type):
            return [_encoded(name, value) for value in column.to_pylist()]
        if kind == "json":
            return [_jsonable(value) for value in column.to_pylist()]
        wanted = self.fields.kinds.get(name) or kind
        if wanted != "json" and wanted is not None:
            try:
                return pc.cast(column, type_of(wanted)).to_pylist()
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                pass  # the rows for which it is wrong are rejected one by one
        return [_jsonable(value) for value in column.to_pylist()]


_EXAMPLES: dict[str, Any] = {
    "string": "",
    "int": 0,
    "float": 0.5,
    "bool": True,
    "strings": [""],
    "ints": [0],
    "floats": [0.5],
    "json": {},
}


def _kind(kind: pa.DataType) -> str | None:
    """The short type name for an Arrow type; None for what holds bytes and for columns without any value."""
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return None
    if pa.types.is_null(kind):
        return None
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return "int"
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _kind(kind.value_type)
        return None if inner is None else {"string": "strings", "int": "ints", "float": "floats"}.get(inner, "json")
    if pa.types.is_struct(kind):
        fields = [_kind(kind.field(i).type) for i in range(kind.num_fields)]
        return None if None in fields else "json"
    return "json" if pa.types.is_map(kind) else "string"


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes, or have bytes in them."""
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _encoded(name: str, value: Any) -> Any:
    """What holds bytes, with base64 text in their place; a Reject where they are too many."""
    size = _count(value)
    return _jsonable(value) if size <= _MOST_BYTES else Reject("many_bytes", f"{name}: {size} bytes")


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_count, value))
    return len(value) if isinstance(value, bytes) else 0


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): _jsonable(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(child) for child in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
