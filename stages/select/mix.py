"""mix: a mixture of flows, with weights, caps, floors and epochs, to an exact total."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from schemas.columns import ANY, CANONICAL, LINEAGE, Types, column, merge_types, path_type
from schemas.digest import draws
from schemas.errors import StageError
from stages.base import Choice, Chosen, Share, options
from stages.select.allot import Bounds, allot, largest_total


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MixSource(_Options):
    """What a mixture takes of one flow."""

    weight: Annotated[float, Field(gt=0)] | None = None
    """Its share, relative to the other weights."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """How often each sample may be taken at most, a whole number."""
    cap: Annotated[int, Field(ge=0)] | None = None
    """The most that is taken, in the unit of `by`."""
    floor: Annotated[int, Field(ge=0)] = 0
    """The least that is taken."""


class Strata(_Options):
    """How a source's share is divided over the values of a column."""

    by: str
    """The column: `task`, `language`, a field of a step. Samples without a value are a stratum of their own."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """A stratum of n gets a share in proportion to n^(1/temperature): 1 by size, 2 by its square root."""
    cap: Annotated[int, Field(ge=0)] | None = None
    """The most that is taken of a stratum of one source, in the unit of the mixture's `by`."""
    floor: Annotated[int, Field(ge=0)] = 0
    """The least that is taken of it; all that there is where it has less."""


@options
class Mix(Choice):
    """Take of each flow its share of a total, at random but always the same for a seed, and shuffle them together.

    Shares are in proportion to `weight`, or to size^(1/temperature) where no source has one. A source that is too small
    for its share, at its epochs, gives what it has; the others fill the total, and the summary says so. Which samples
    are taken depends on their keys: a larger share keeps all that a smaller one took. Keys begin with the flow's name
    afterwards, and a sample that is taken again gets `~2`, `~3` at the end of its key. (Report 3.1 and 3.3.)
    """

    reasons = ("unmeasured",)

    sources: Annotated[dict[str, MixSource | None], Field(min_length=1)]
    """Flow -> `{weight, epochs, cap, floor}`, all of them optional: `{vflan: {weight: 0.5, epochs: 2}, facts: }`."""
    total: Annotated[int, Field(ge=1)] | None = None
    """How much is taken in all, exactly. Left out: as much as the weights allow with no source too small; caps and
    floors then change that, so with them a total is the clearer wish."""
    by: str = "samples"
    """What weights, caps and the total count: `samples`, or a column with whole numbers, such as `length.tokens`. A
    total of such units is met to less than one sample; a sample without a number is rejected as `unmeasured`."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Without weights a source of size n gets a share in proportion to n^(1/temperature)."""
    strata: Strata | None = None
    """Divide each source's share over the values of a column: `{by: task, temperature: 2, cap: 5000, floor: 10}`."""
    shuffle: Literal["full", "none"] = "full"
    """`full` puts all samples into one random order; `none` leaves the sources one after the other."""
    seed: int = 0
    """The recipe's seed when left out."""

    def check(self) -> Iterator[str]:
        """Weights for some sources but not for all, floors above caps, floors above the total."""
        given = {name: self.of(name) for name in self.sources}
        without = [name for name, source in given.items() if source.weight is None]
        if 0 < len(without) < len(given):
            yield f"give all sources a weight or none: {', '.join(without)} has none"
        for name, source in given.items():
            if source.cap is not None and source.floor > source.cap:
                yield f"the floor of {name} is above its cap"
        if self.total is not None and sum(source.floor for source in given.values()) > self.total:
            yield "the floors of the sources are more than the total"

    def of(self, name: str) -> MixSource:
        """What is said of a source."""
        return self.sources[name] or MixSource()

    def inputs(self) -> tuple[str, ...]:
        """The flows."""
        return tuple(self.sources)

    def measured(self) -> dict[str, pa.DataType]:
        """The columns that decide: what is counted, and the strata."""
        wanted = {} if self.by == "samples" else {self.by: ANY}
        return {**wanted, **({self.strata.by: ANY} if self.strata else {})}

    def types(self, inputs: Mapping[str, Types]) -> dict[str, pa.DataType]:
        """The columns of all sources. Raises ValueError where they do not go together, or nothing can be counted."""
        merged: dict[str, pa.DataType] = {}
        for name, types in inputs.items():
            if self.by != "samples" and not pa.types.is_integer(path_type(types, self.by) or ANY):
                raise ValueError(f"the flow {name!r} has no column {self.by!r} of whole numbers")
            if self.strata and path_type(types, self.strata.by) is None:
                raise ValueError(f"the flow {name!r} has no column {self.strata.by!r}")
            try:
                merged = merge_types(merged, types, "the mixture")
            except TypeError as error:
                raise ValueError(str(error)) from None
        return {**merged, "lineage": LINEAGE, "order": CANONICAL["order"]}

    def partial_spec(self) -> list[Any]:
        """The seed and what is measured."""
        return [self.version, self.seed, self.by, self.strata and self.strata.by]

    def partial(self, name: str, rows: pa.Table) -> pa.Table:
        """For each row its draw, what it counts (null where it has no number), and its stratum."""
        drawn = draws(self.seed, f"mix/{name}", rows.column("key").to_pylist())
        made = {"draw": pa.array(drawn)}
        if self.by != "samples":
            made["cost"] = pc.cast(column(rows, self.by), pa.int64())
        if self.strata:
            made["stratum"] = pc.cast(column(rows, self.strata.by), pa.string())
        return pa.table(made)

    def merge(self, partials: Mapping[str, Sequence[pa.Table]]) -> tuple[dict[str, Chosen], list[Share]]:
        """How often each row is taken. Raises StageError where the total cannot be had."""
        empty = pa.table({"draw": pa.array([], pa.int64()), "cost": pa.array([], pa.int64())})
        pools = {
            name: _Pool(pa.concat_tables(tables) if tables else empty, self.of(name), self.strata)
            for name, tables in partials.items()
        }
        weights = self._weights(pools)
        bounds = [pool.bounds for pool in pools.values()]
        least = sum(bound.least for bound in bounds)
        have = [pool.size * self.of(name).epochs for name, pool in pools.items()]
        total = self.total
        if total is None:
            total = largest_total(weights, have)
            total = max(min(total, sum(b.most for b in bounds)), least)
        if total < least:
            floors = ", ".join(f"{name} {pool.bounds.least:,}" for name, pool in pools.items() if pool.bounds.least)
            raise StageError(f"the mixture wants {total:,} {self.by}, but its floors ask for {least:,}", floors)
        if total > sum(b.most for b in bounds):
            most = ", ".join(f"{name} {pool.bounds.most:,}" for name, pool in pools.items())
            have_all = f"{sum(b.most for b in bounds):,} at most"
            raise StageError(
                f"the mixture wants {total:,} {self.by}, but its sources can give {have_all}",
                f"at these epochs and caps: {most}",
            )
        quotas = allot(total, weights, bounds)
        ideal = allot(total, weights, [Bounds(0, total)] * len(weights))
        shares = []
        chosen = {}
        carried = 0
        for (name, pool), quota, wanted in zip(pools.items(), quotas, ideal, strict=True):
            copies, taken = pool.take(quota + carried, exact=self.by == "samples")
            carried += quota - taken
            chosen[name] = Chosen(copies, pool.unmeasured)
            short = max(0, wanted - pool.size * self.of(name).epochs)  # a cap is meant, smallness is not
            shares.append(Share(name, pool.size, wanted, taken, short if taken < wanted else 0))
        return chosen, shares

    def _weights(self, pools: Mapping[str, _Pool]) -> list[float]:
        given = [self.of(name).weight for name in pools]
        if any(weight is None for weight in given):
            return [float(pool.size) ** (1 / self.temperature) for pool in pools.values()]
        return [weight for weight in given if weight is not None]

    def keys(self, name: str, keys: pa.Array) -> pa.Array:
        """The keys of a source's rows in the mixture: they begin with the flow's name."""
        prefixed = pc.binary_join_element_wise(pa.scalar(name), keys, "/")
        return pc.if_else(pc.starts_with(keys, f"{name}/"), keys, prefixed)

    def order(self, keys: pa.Array) -> pa.Array:
        """Where the rows with these new keys stand."""
        if self.shuffle == "none":
            return pa.array(np.zeros(len(keys), np.int64))
        return pa.array(draws(self.seed, "mix.order", keys.to_pylist()))


class _Stratum(NamedTuple):
    rows: np.ndarray
    """In the order in which they are taken."""
    costs: np.ndarray | None
    size: int


class _Pool:
    """The rows of one source, by strata."""

    def __init__(self, rows: pa.Table, source: MixSource, strata: Strata | None) -> None:
        self._count = len(rows)
        self._source = source
        draw = rows.column("draw").to_numpy()
        costs = rows.column("cost").combine_chunks() if "cost" in rows.column_names else None
        usable = np.ones(len(rows), bool)
        if costs is not None:
            usable = pc.fill_null(pc.greater(costs, 0), False).to_numpy(zero_copy_only=False)
        self.unmeasured = ~usable
        codes = np.zeros(len(rows), np.int64)
        if "stratum" in rows.column_names:
            labels = pc.fill_null(rows.column("stratum").combine_chunks(), "").dictionary_encode()
            rank = np.argsort(np.argsort(np.array(labels.dictionary.to_pylist(), object), kind="stable"))
            codes = rank[labels.indices.to_numpy()]
        order = np.lexsort((np.arange(len(rows)), draw, codes))
        order = order[usable[order]]
        cuts = np.flatnonzero(np.diff(codes[order])) + 1
        numbers = None if costs is None else pc.fill_null(costs, 0).to_numpy()
        self._strata = []
        for group in np.split(order, cuts) if len(order) else []:
            cost = None if numbers is None else numbers[group]
            self._strata.append(_Stratum(group, cost, len(group) if cost is None else int(cost.sum())))
        self.size = sum(stratum.size for stratum in self._strata)
        limits = strata or Strata(by="")
        self._shares = [float(stratum.size) ** (1 / limits.temperature) for stratum in self._strata]
        self._bounds = []
        for stratum in self._strata:
            have = stratum.size * source.epochs
            most = have if limits.cap is None else min(have, limits.cap)
            self._bounds.append(Bounds(min(limits.floor, most), most))
        most = sum(bound.most for bound in self._bounds)
        most = most if source.cap is None else min(most, source.cap)
        least = max(source.floor, sum(bound.least for bound in self._bounds))
        self.bounds = Bounds(min(least, most), most)

    def take(self, quota: int, exact: bool) -> tuple[np.ndarray, int]:
        """How often each row is taken (int32), and how much that is; exact: every row counts one."""
        copies = np.zeros(self._count, np.int32)
        quota = min(quota, sum(bound.most for bound in self._bounds))
        least = sum(bound.least for bound in self._bounds)
        bounds = self._bounds if quota >= least else [Bounds(0, bound.most) for bound in self._bounds]
        taken = 0
        carried = 0
        for stratum, share in zip(self._strata, allot(quota, self._shares, bounds), strict=True):
            full, rest = divmod(share + carried, stratum.size)
            if full >= self._source.epochs:
                full, rest = self._source.epochs, 0
            copies[stratum.rows] = full
            if stratum.costs is None:
                copies[stratum.rows[:rest]] += 1
            else:
                fits = int(np.searchsorted(np.cumsum(stratum.costs), rest, side="right"))
                copies[stratum.rows[:fits]] += 1
                rest = int(stratum.costs[:fits].sum())
            got = full * stratum.size + rest
            carried += share - got
            taken += got
        assert not exact or taken == quota
        return copies, taken
