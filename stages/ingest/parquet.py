"""ingest.parquet: row groups of parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.columns import type_of
from stages.base import Origin, Reject, options
from stages.ingest.fields import infer
from stages.ingest.paths import InputFile, find_files, open_file
from stages.ingest.tables import Table

_BATCH = 1024  # rows turned into Python objects at once


@options
class Parquet(Table):
    """Parquet files, one row group after another. A row's key ends in its number within the file from 0 on.

    Whole numbers, floats, booleans and text keep their kind; dates and decimals become text; lists of these stay
    lists; anything nested becomes JSON text. Columns of bytes are left out: media in a table need their own reader.
    """

    extensions = ("parquet",)
    reasons = (*Table.reasons, "broken_table")

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
        names = [field.name for field in file.schema_arrow if _kind(field.type)]
        number = origin.start
        for batch in file.iter_batches(_BATCH, groups, columns=names):
            columns = [self._plain(name, column) for name, column in zip(names, batch.columns, strict=True)]
            for values in zip(*columns, strict=True):
                yield f"{number:09d}", dict(zip(names, values, strict=True))
                number += 1

    def _plain(self, name: str, column: pa.Array) -> list[Any]:
        """Values that JSON could hold, of the column's declared kind where that is possible without loss."""
        kind = _kind(column.type)
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
    """The short type name for an Arrow type; None for bytes and for columns without any value."""
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


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(child) for child in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
