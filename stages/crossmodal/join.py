"""join: the rows of one flow get columns and parts from rows of another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from schemas.columns import CANONICAL, LINEAGE, PARTS, RESERVED, Types, column, leaves, path_type
from schemas.errors import nearest
from stages.base import Combine, options

_OWN = (
    "source",
    "license",
    "origin",
    "extra",
    "lineage",
)  # every source has these; they describe the row that they stand in


@options
class Join(Combine):
    """Add to each row of `left` the columns and parts of the row of `right` that has the same value in a column.

    Keys, source, licence and origin are the left row's. Where several right rows match, the one with the smallest key
    is taken, so no row is multiplied. A part that both rows have is the left row's. Right rows are looked up, not
    counted: those that match nothing, and all but the first of those that match, leave no reject.
    """

    reasons = ("unmatched",)

    left: str
    """The flow whose rows are completed."""
    right: str
    """The flow that completes them."""
    by: str
    """The column by which rows belong together: `key`, a column, or a field of a step (`meta.id`). Keys begin with the
    name of their source, so `key` joins flows that branch off one flow; for flows from different files take a column
    (the field that `id` names stays one)."""
    right_by: str | None = None
    """The column's name in the right flow, where it differs."""
    how: Literal["inner", "left"] = "inner"
    """What becomes of a left row without a match: rejected as `unmatched` (inner), or kept with nulls (left)."""
    columns: list[str] | dict[str, str] | None = None
    """Columns that are taken over: names, or new name -> right name. All of the right flow's when left out, except
    source, license, origin and extra."""

    def inputs(self) -> dict[str, str]:
        """Both flows."""
        return {"left": self.left, "right": self.right}

    def bucket_on(self, name: str) -> str:
        """The column by which rows belong together."""
        return self.by if name == "left" or self.right_by is None else self.right_by

    def types(self, inputs: Mapping[str, Types]) -> dict[str, pa.DataType]:
        """The left columns and those taken over. Raises ValueError where names or types do not go together."""
        left, right = inputs["left"], inputs["right"]
        first, second = (
            path_type({"key": pa.string(), **types}, self.bucket_on(name)) for name, types in inputs.items()
        )
        if first != second:
            raise ValueError(f"{self.by} is {first} in the left flow and {second} in the right one")
        taken = {}
        for new, old in self._taken(right).items():
            kind = path_type(right, old)
            if kind is None:
                hint = nearest(old, [*leaves(right), *right])
                raise ValueError(f"the right flow has no column {old!r}; {hint}")
            if new in left:
                raise ValueError(
                    f"both flows have the column {new!r}: list the right flow's columns that are wanted in `columns`, "
                    f"where one can be renamed (`columns: {{right_{new}: {old}}}`), or use select.rename before"
                )
            if new in RESERVED or not new.isidentifier():
                raise ValueError(f"a column cannot be called {new!r}")
            if CANONICAL.get(new, kind) != kind:
                raise ValueError(f"the column {new!r} has the type {CANONICAL[new]} everywhere, but {old} is {kind}")
            taken[new] = kind
        return {**left, **taken, "lineage": LINEAGE}

    def _taken(self, right: Types) -> dict[str, str]:
        """New name -> path in the right flow."""
        if isinstance(self.columns, dict):
            return self.columns
        if self.columns is not None:
            return {name: name for name in self.columns}
        return {name: name for name in right if name not in _OWN and name != self.bucket_on("right")}

    def rows(self, inputs: Mapping[str, pa.Table]) -> pa.Table:
        """The left rows by key, completed; `_drop` where nothing matches an inner join."""
        left, right = inputs["left"].sort_by("key"), inputs["right"].sort_by("key")
        keeper: dict[Any, int] = {}
        for row, value in enumerate(column(right, self.bucket_on("right")).to_pylist()):
            if value is not None:
                keeper.setdefault(value, row)
        match = [keeper.get(value) for value in column(left, self.by).to_pylist()]  # None, and so null, finds nothing
        rows = pa.array(match, pa.int64())
        types = {name: right.schema.field(name).type for name in right.column_names if name not in RESERVED}
        result = left.drop_columns([name for name in ("parts", "lineage") if name in left.column_names])
        result = result.append_column("lineage", _ancestors(left, right, rows))
        for new, old in self._taken(types).items():
            result = result.append_column(new, column(right, old).take(rows))
        parts = _merged(left.column("parts").to_pylist(), right.column("parts").take(rows).to_pylist())
        result = result.append_column("parts", parts)
        if self.how == "inner":
            drop = pc.if_else(rows.is_null(), pa.scalar("unmatched"), pa.scalar(None, pa.string()))
            result = result.append_column("_drop", drop)
        return result


def _ancestors(left: pa.Table, right: pa.Table, rows: pa.Array) -> pa.Array:
    """Those of the left row, those of the right row, and the right row."""
    own, other = (
        table.column("lineage").to_pylist() if "lineage" in table.column_names else [None] * len(table)
        for table in (left, right)
    )
    keys = right.column("key").to_pylist()
    found = []
    for mine, row in zip(own, rows.to_pylist(), strict=True):
        entry = [] if row is None else [*(other[row] or ()), {"step": "join", "key": keys[row], "dataset": None}]
        found.append([*(mine or ()), *entry] or None)
    return pa.array(found, LINEAGE)


def _merged(left: list[Any], right: list[Any]) -> pa.Array:
    merged = []
    for own, other in zip(left, right, strict=True):
        names = {part["name"] for part in own or ()}
        merged.append([*(own or ()), *(part for part in other or () if part["name"] not in names)] or None)
    return pa.array(merged, PARTS)
