"""Frames: the columns and parts of one unit, opened in a worker from what a Reading names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ledger import Ledger, Reading
from schemas.columns import ANY, PARTS, column, leaves_under
from schemas.sample import Part


class Frame:
    """The opened unit: arrays over all rows of the base, and which rows are live."""

    def __init__(self, ledger: Ledger, reading: Reading) -> None:
        self.rows = reading.rows
        self._arrays: dict[str, pa.Array] = {}
        self._part_columns: list[pa.Array] = []
        self._wanted = reading.wanted
        opened: dict[str, pa.Table] = {}
        for fp in dict.fromkeys((reading.base, *reading.columns, *reading.drops, *reading.parts)):
            names = list(reading.columns.get(fp, ()))
            names += ["key"] if fp == reading.base else []
            names += ["_row"] if fp == reading.base and reading.inherited else []
            names += ["_drop"] if fp in reading.drops else []
            names += ["parts"] if fp in reading.parts else []
            opened[fp] = ledger.read(fp, list(dict.fromkeys(names)))
        for fp, paths in reading.columns.items():
            for path in paths:
                self._arrays[path] = column(opened[fp], path)
        self.keys: pa.Array = opened[reading.base].column("key").combine_chunks()
        self.live = np.ones(self.rows, dtype=bool)
        for fp in reading.drops:
            drops = opened[fp].column("_drop").combine_chunks()
            self.live &= drops.is_null().to_numpy(zero_copy_only=False)
        if reading.inherited is not None:
            rows = opened[reading.base].column("_row").combine_chunks()
            parent = Frame(ledger, reading.inherited)
            for path, array in parent._arrays.items():
                self._arrays.setdefault(path, array.take(rows))
            self._part_columns += [parts.take(rows) for parts in parent._part_columns]
        self._part_columns += [opened[fp].column("parts").combine_chunks() for fp in reading.parts]

    def array(self, path: str, kind: pa.DataType = ANY) -> pa.Array:
        """The column at a dotted path over all rows; nulls where no input has it."""
        if path in self._arrays:
            return self._arrays[path]
        if path == "key":
            return self.keys
        below = leaves_under(self._arrays, path)
        if not below:
            return pa.nulls(self.rows, kind)
        if path.startswith(below[0] + "."):  # a field deeper than the unit of reading
            array = self._arrays[below[0]]
            for name in path[len(below[0]) + 1 :].split("."):
                array = pc.struct_field(array, name)
            return array
        return pa.StructArray.from_arrays([self._arrays[p] for p in below], [p[len(path) + 1 :] for p in below])

    def table(self, paths: Mapping[str, pa.DataType], rows: np.ndarray[Any, Any] | None = None) -> pa.Table:
        """A flat table with `key` and the dotted paths as column names, of some rows (indices) or all."""
        arrays = {"key": self.keys, **{path: self.array(path, kind) for path, kind in paths.items()}}
        table = pa.table(arrays)
        return table if rows is None else table.take(pa.array(rows))

    def parts(self) -> list[dict[str, Part]]:
        """The wanted parts of every row by name; a later layer replaces a part of the same name."""
        found: list[dict[str, Part]] = [{} for _ in range(self.rows)]
        for array in self._part_columns:
            offsets, fields = _flat_parts(array)
            flat = [Part(*values) for values in zip(*fields, strict=True)]
            for row in range(self.rows):
                for part in flat[offsets[row] : offsets[row + 1]]:
                    if self._wanted is None or part.name in self._wanted:
                        found[row][part.name] = part
        return found

    def part_column(self, rows: np.ndarray[Any, Any]) -> pa.Array:
        """The `parts` column of some rows (indices)."""
        if not self._part_columns:
            return pa.nulls(len(rows), PARTS)
        [first, *others] = self._part_columns
        names = pc.unique(first.flatten().field("name")).to_pylist()
        if others or not (self._wanted is None or self._wanted.issuperset(names)):
            parts = self.parts()
            return part_rows(parts[row] for row in rows)
        return first.take(pa.array(rows))


def _flat_parts(array: pa.Array) -> tuple[list[int], list[list[Any]]]:
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    flat = array.flatten()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    return offsets, [child.to_pylist() for child in flat.flatten()]


def part_rows(parts: Iterable[Mapping[str, Part] | None]) -> pa.Array:
    """The `parts` column of some rows: list<struct>, null where a row has none."""
    rows = [None if not row else [part._asdict() for part in row.values()] for row in parts]
    return pa.array(rows, PARTS)
