"""select.split: which split (train, validation, test) a row belongs to."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field

from schemas.columns import ANY, Columns, Types, path_type
from schemas.digest import draws
from stages.base import Columnar, options

_DRAWS = 1 << 63
_NAME = r"^\w[\w.-]*$"


def _whole(shares: dict[str, float]) -> dict[str, float]:
    total = math.fsum(shares.values())
    if not math.isclose(total, 1, rel_tol=0, abs_tol=1e-9):
        raise ValueError(f"the shares sum to {total:g}, not to 1")
    return shares


Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Shares = Annotated[dict[Annotated[str, Field(pattern=_NAME)], Share], Field(min_length=1), AfterValidator(_whole)]


@options
class SplitRows(Columnar):
    """Assign each row to a split, by a hash of the value by which rows belong together.

    All rows of one speaker, document or video get the same split, in every run and in every data set with the same
    seed. Shares are of groups, not of rows. `filter.where: {sql: "split.split = 'train'"}` takes one of them.
    """

    reasons = ("no_group",)

    by: str = "key"
    """The column whose equal values stay together (`speaker`, `meta.video`). Rows without a value are rejected."""
    shares: Shares
    """Split -> its share: `{train: 0.98, validation: 0.01, test: 0.01}`. They sum to 1."""
    seed: int = 0
    """The recipe's seed when left out."""

    def reads(self) -> Columns:
        """The grouping column."""
        return Columns({} if self.by == "key" else {self.by: ANY})

    def writes(self) -> Columns:
        """The name of the split."""
        return Columns({"split": pa.string()})

    def bind(self, types: Types) -> None:
        """Raises ValueError where the grouping column holds lists or structs."""
        kind = path_type({"key": pa.string(), **types}, self.by)
        if kind is not None and pa.types.is_nested(kind):
            raise ValueError(f"rows can be grouped by plain values, but {self.by} is {kind}")

    def table(self, rows: pa.Table) -> pa.Table:
        """The splits; `_drop` where there is no group."""
        groups = rows.column(self.by).combine_chunks()
        unknown = groups.is_null()
        drawn = draws(self.seed, "select.split", map(str, groups.to_pylist())).astype(np.uint64)
        names = list(self.shares)
        bounds = [round(math.fsum(list(self.shares.values())[:end]) * _DRAWS) for end in range(1, len(names))]
        chosen = np.searchsorted(np.array(bounds, np.uint64), drawn, side="right")
        splits = pa.array(names, pa.string()).take(pa.array(chosen))
        none = pa.scalar(None, pa.string())
        return pa.table(
            {
                "key": rows.column("key"),
                "split": pc.if_else(unknown, none, splits),
                "_drop": pc.if_else(unknown, pa.scalar("no_group"), none),
            }
        )
