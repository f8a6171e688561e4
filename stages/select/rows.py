"""select.sample, select.shuffle, select.limit: fewer rows, or the same in another order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from schemas.columns import CANONICAL, Columns
from schemas.digest import array_digest, draws
from schemas.errors import StageError
from stages.base import Columnar, Gather, options

_DRAWS = 1 << 63


@options
class SampleRows(Columnar):
    """Keep a random share of the rows. Whether a row stays depends on its key and the seed alone.

    So a larger share keeps all that a smaller one kept, and new rows change nothing for the old ones.
    """

    reasons = ("not_drawn",)

    share: Annotated[float, Field(ge=0, le=1, strict=True)]  # strict: `yes` is no share of 1
    """How much is kept, from 0 to 1; the number of rows that are kept varies around it."""
    seed: int = 0
    """The recipe's seed when left out."""

    def table(self, rows: pa.Table) -> pa.Table:
        """`_drop` where the draw is not below the share."""
        bound = round(self.share * _DRAWS)  # 2**63 itself is no int64, so shares of 1 are told apart
        drawn = draws(self.seed, "select.sample", rows.column("key").to_pylist())
        keep = np.ones(len(rows), dtype=bool) if bound >= _DRAWS else drawn < bound
        return pa.table({"key": rows.column("key"), "_drop": dropped(keep, "not_drawn")})


@options
class Shuffle(Columnar):
    """Put the rows into a random order that depends on their keys and the seed alone."""

    seed: int = 0
    """The recipe's seed when left out."""

    def writes(self) -> Columns:
        """The canonical column that packing sorts by."""
        return Columns({"order": CANONICAL["order"]})

    def table(self, rows: pa.Table) -> pa.Table:
        """A draw for each row."""
        keys = rows.column("key")
        return pa.table({"key": keys, "order": draws(self.seed, "select.shuffle", keys.to_pylist())})


@options
class Limit(Gather):
    """Keep the first rows in the order of the input; the rest is rejected as `over_limit`."""

    reasons = ("over_limit",)

    rows: Annotated[int, Field(ge=0, strict=True)]
    """How many rows are kept."""

    def partial(self, rows: pa.Table) -> pa.Table:
        """How many rows a unit has, and a name by which `apply` knows it again."""
        return pa.table({"unit": [_unit(rows)], "count": pa.array([len(rows)], pa.int64())})

    def merge(self, partials: Iterator[pa.Table]) -> pa.Table:
        """How many rows each unit may keep."""
        units: dict[str, int] = {}
        left = self.rows
        for partial in partials:
            for unit, count in zip(partial["unit"].to_pylist(), partial["count"].to_pylist(), strict=True):
                units[unit] = min(left, count)
                left -= units[unit]
        return pa.table({"unit": pa.array(units, pa.string()), "keep": pa.array(units.values(), pa.int64())})

    def apply(self, merged: pa.Table, rows: pa.Table) -> pa.Table:
        """`_drop` from the row on that is one too many."""
        at = merged["unit"].combine_chunks().index(_unit(rows)).as_py()
        if at < 0:
            raise StageError("select.limit met rows that it had not counted", "this is a bug in the engine")
        keep = np.arange(len(rows)) < merged["keep"][at].as_py()
        return pa.table({"key": rows.column("key"), "_drop": dropped(keep, "over_limit")})


def _unit(rows: pa.Table) -> str:
    """The unit's keys identify it; a counter would have to come from the engine."""
    return array_digest(rows.column("key"))


def dropped(keep: np.ndarray, reason: str) -> pa.Array:
    """A `_drop` column: the reason where a row is not kept."""
    return pc.if_else(pa.array(keep), pa.scalar(None, pa.string()), pa.scalar(reason))
