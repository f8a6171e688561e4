"""The ledger: content-addressed commits of units, and views over them.

A commit is one parquet in the store, named by its fingerprint, published atomically and never changed. A base holds
rows; a layer holds, row for row of its base, only the columns that a segment wrote, and `_drop` for rows it rejected.
A view stacks layers on a base; a base made by an expand points into its parent's view by `_row`.

The conservation law: rows(layer) == rows(base). Nothing is rewritten, nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.index import REFERENCE, read_index
from schemas.columns import leaves, leaves_under
from schemas.digest import array_digest, fingerprint
from schemas.errors import RunError
from schemas.store import Store

META = b"omnicurate"
ALL_LIVE = "all"


@dataclass
class StepTally:
    """What one step did with one unit: rows that reached it, went on, were rejected; exceptions among those.

    left: what a mixture did not take; repeated: what it took once more.
    """

    step: str
    read: int = 0
    kept: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    errors: int = 0
    left: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Commit:
    """What is known of a commit without opening its columns.

    digests: leaf column -> content digest; parts are under `parts.<name>`. live: digest of the live mask after this
    commit; live_rows: how many rows are live; drops: whether it rejected rows itself; inherits: rows point to a parent.
    """

    fp: str
    rows: int
    live_rows: int
    live: str = ALL_LIVE
    drops: bool = False
    inherits: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[StepTally, ...] = ()
    media: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """For the metadata of the parquet file."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Commit:
        """The opposite of to_json."""
        raw = json.loads(data)
        raw["steps"] = tuple(StepTally(**tally) for tally in raw["steps"])
        raw["media"] = tuple(raw["media"])
        return cls(**raw)

    @property
    def published(self) -> bool:
        """Whether the rows stand in the index of a published data set, and not in the store."""
        return self.fp.startswith(REFERENCE)

    @cached_property
    def content(self) -> str:
        """Digest of everything that a reader can see."""
        return fingerprint([self.rows, self.live, sorted(self.digests.items())])


class Ledger:
    """Commits of a store, by fingerprint."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def name(self, fp: str) -> str:
        """Path of a commit below the store."""
        return f"commits/{fp[:2]}/{fp}.parquet"

    def find(self, fp: str) -> Commit | None:
        """The commit of that fingerprint, if one has been published. Raises StoreError when it is unreadable."""
        from schemas.errors import StoreError

        try:
            with self.store.open(self.name(fp)) as file:
                metadata = pq.read_metadata(file).metadata or {}
        except FileNotFoundError:
            return None
        except (pa.ArrowInvalid, OSError) as error:
            where = self.store.path(self.name(fp))
            raise StoreError(
                f"the commit {where} is damaged ({type(error).__name__})", "delete this file and run again"
            ) from None
        return Commit.from_json(metadata[META])

    def publish(self, commit: Commit, table: pa.Table, groups: Sequence[int] | None = None) -> Commit:
        """Write a commit; if another worker was first, its commit is the truth and is returned.

        groups: lengths of the parquet row groups, for those who will read only some of the rows.
        """
        sink = self.store.temporary()
        table = table.replace_schema_metadata({META: commit.to_json()})
        with pq.ParquetWriter(
            sink, table.schema, compression="lz4", use_dictionary=False, write_statistics=False
        ) as writer:
            start = 0
            for length in groups if groups is not None else [len(table)]:
                writer.write_table(table.slice(start, length), row_group_size=max(1, length))
                start += length
        if self.store.put_new(self.name(commit.fp), sink, sync_name=False):
            return commit
        winner = self.find(commit.fp)
        assert winner is not None
        return winner

    def read(self, fp: str, columns: list[str] | None = None, groups: Sequence[int] | None = None) -> pa.Table:
        """Columns (leaf paths) of a commit, or all of them; of some of its row groups, or all."""
        if fp.startswith(REFERENCE):
            return read_index(fp, columns)
        with self.store.open(self.name(fp)) as file:
            parquet = pq.ParquetFile(file)
            if groups is None:
                return parquet.read(columns=columns, use_threads=False)
            return parquet.read_row_groups(list(groups), columns=columns, use_threads=False)


def table_digests(table: pa.Table, skip: Iterable[str] = ("key", "parts")) -> dict[str, str]:
    """Content digests of a table's leaf columns; parts by name."""
    from schemas.columns import column

    skipped = set(skip)
    types = {f.name: f.type for f in table.schema if f.name not in skipped}
    found = {path: array_digest(column(table, path)) for path in leaves(types)}
    if "key" in table.column_names:
        found["key"] = array_digest(table.column("key"))
    if "parts" in table.column_names:
        found.update(_part_digests(table.column("parts").combine_chunks()))
    return found


def _part_digests(parts: pa.Array) -> dict[str, str]:
    flat = parts.flatten()
    rows = pc.list_parent_indices(parts)
    names = flat.field("name")
    found = {}
    for name in sorted(names.unique().to_pylist()):
        mask = pc.equal(names, name)
        found[f"parts.{name}"] = fingerprint([array_digest(flat.filter(mask)), array_digest(rows.filter(mask))])
    return found


@dataclass(frozen=True)
class Reading:
    """What a worker must open to see some columns and parts of a unit (plain data, sent to workers).

    drops: commits whose `_drop` hides rows. columns: commit -> leaf paths. parts: commits with parts, oldest first;
    wanted: names of parts, None for all. inherited: what comes from the parent through `_row`.
    """

    base: str
    rows: int
    drops: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    parts: tuple[str, ...] = ()
    wanted: frozenset[str] | None = frozenset()
    inherited: Reading | None = None


@dataclass(frozen=True)
class View:
    """A unit as it stands at some point of a flow: a base, layers on it, and the parent that it inherits from."""

    base: Commit
    layers: tuple[Commit, ...] = ()
    parent: View | None = None

    def over(self, layer: Commit) -> View:
        """The view with one more layer. Raises RunError when the layer is not row-aligned."""
        if layer.rows != self.base.rows:
            raise RunError(f"a layer of {layer.rows} rows does not fit its base of {self.base.rows}: samples were lost")
        return View(self.base, (*self.layers, layer), self.parent)

    @property
    def commits(self) -> tuple[Commit, ...]:
        """The base and the layers, oldest first."""
        return (self.base, *self.layers)

    @property
    def live(self) -> str:
        """Digest of the live mask."""
        return self.commits[-1].live

    @property
    def live_rows(self) -> int:
        """Rows that have not been rejected."""
        return self.commits[-1].live_rows

    def owner(self, path: str) -> Commit | None:
        """The commit that a column is read from."""
        found = next((c for c in reversed(self.commits) if leaves_under(c.digests, path)), None)
        return self.parent.owner(path) if found is None and self.parent is not None else found

    def read(self, paths: Iterable[str], parts: Iterable[str] | None) -> tuple[Reading, list[Any]]:
        """How to read columns (dotted paths) and parts (None: all), and the digests of what will be read."""
        digests: list[Any] = []
        columns: dict[str, tuple[str, ...]] = {}
        inherited: list[str] = []
        for path in dict.fromkeys(paths):
            owner = next((c for c in reversed(self.commits) if leaves_under(c.digests, path)), None)
            if owner is None:
                inherited.append(path)
                continue
            found = sorted(leaves_under(owner.digests, path))
            columns[owner.fp] = tuple(dict.fromkeys((*columns.get(owner.fp, ()), *found)))
            digests.append([path, [[leaf, owner.digests[leaf]] for leaf in found]])
        names = None if parts is None else frozenset(parts)
        holders = [c for c in self.commits if _part_names(c, names)]
        digests += [[leaf, c.digests[leaf]] for c in holders for leaf in _part_names(c, names)]
        deeper = None
        if self.parent is not None and (inherited or names is None or names):
            deeper, deep_digests = self.parent.read(inherited, names)
            digests.append(["inherited", self.base.digests["_row"], deep_digests])
        reading = Reading(
            base=self.base.fp,
            rows=self.base.rows,
            drops=tuple(c.fp for c in self.commits if c.drops),
            columns=columns,
            parts=tuple(c.fp for c in holders),
            wanted=names,
            inherited=deeper,
        )
        return reading, digests


def _part_names(commit: Commit, wanted: frozenset[str] | None) -> list[str]:
    names = [leaf for leaf in commit.digests if leaf.startswith("parts.")]
    return sorted(n for n in names if wanted is None or n.removeprefix("parts.") in wanted)
