"""The kinds of stage. A stage declares what it reads and writes and has one method that does the work.

Loops, batches, counters, rejects, retries, isolation and progress are the engine's; a stage never sees them.

| kind     | method                          | one row becomes                     |
|----------|---------------------------------|-------------------------------------|
| Source   | origins(), read(origin)         | (makes the first rows)              |
| Indexed  | groups()                        | (rows that are published already)   |
| Map      | each(sample)                    | one row, or a reject                |
| Columnar | table(rows)                     | the same, for whole tables at once  |
| Batch    | batch(model, samples)           | the same, with a model              |
| Expand   | each(sample)                    | any number of rows                  |
| Gather   | partial, merge, apply           | one row, knowing about all others   |
| Combine  | rows(inputs)                    | rows of several flows become one    |
| Choice   | partial, merge                  | rows of several flows, each any     |
|          |                                 | number of times                     |

Options are the fields of the class: typed, with ranges, each documented by the string under it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from schemas.columns import Columns, Types
from schemas.sample import Media, Part, Sample

T = TypeVar("T", bound=type)
Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def options(cls: T) -> T:
    """Class decorator of stages and models: a frozen dataclass whose fields are checked options."""
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return pydantic_dataclass(frozen=True, kw_only=True, config=config)(cls)  # type: ignore[return-value]


class New(NamedTuple):
    """A result: columns (relative names), media made by the stage, parts that point at existing bytes.

    key: local id, only where rows are made (sources); children of an expand are numbered.
    """

    columns: Mapping[str, Any] = {}
    media: Mapping[str, Media] = {}
    parts: Mapping[str, Part] = {}
    key: str | None = None


class Reject(NamedTuple):
    """A sample that goes no further. `reason` is one of the stage's `reasons`; `detail` may hold figures."""

    reason: str
    detail: str = ""
    key: str | None = None


KEEP = New()


class Needs(NamedTuple):
    """Resources of one worker: logical CPUs, GPUs (may be a fraction), memory in bytes."""

    cpus: float = 1
    gpus: float = 0
    memory: int = 0


class Requirement(NamedTuple):
    """An optional Python module and the extra that brings it."""

    module: str
    extra: str


class Configured:
    """What stages and models share: options, what they need to run, and problems that can be seen in advance."""

    needs: ClassVar[Needs] = Needs()
    requires: ClassVar[tuple[Requirement, ...]] = ()
    version: ClassVar[int] = 1
    """Raised when the output changes for the same options: old results are then not reused."""

    def options(self) -> dict[str, Any]:
        """The option values, for the fingerprint and the manifest."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: getattr(self, field.name) for field in fields}

    def check(self) -> Iterator[str]:
        """Problems that would stop a run: missing paths, weights, programs. Cheap; called before anything runs."""
        yield from ()


class Model(Configured):
    """A model declared in a recipe: `load` gives the object that stages use (a protocol of stages.models)."""

    def load(self) -> Any:
        """The loaded model; called once in each worker of its pool."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """What makes its output what it is (weights' revision, threads): part of every fingerprint below it."""
        return self.options()


class Stage(Configured):
    """Base of the kinds."""

    reasons: ClassVar[tuple[str, ...]] = ()
    """The reject reasons that the stage itself gives."""
    nameless: ClassVar[tuple[str, ...]] = ()
    """Those of them whose rejects are listed by their keys alone: nothing of their content may stay."""

    def reads(self) -> Columns:
        """Columns (dotted paths) and parts that the work depends on; nothing else can be reached."""
        return Columns()

    def writes(self) -> Columns:
        """Columns and parts that the work adds."""
        return Columns()

    def bind(self, types: Types) -> None:
        """Check the options against the types that stand upstream. Raises ValueError(message)."""

    def identity(self) -> dict[str, Any]:
        """Options whose value is a mere name of what decides the output (a file), with what it stands for (its digest).

        The fingerprint has these in place of the values.
        """
        return {}


class Origin(NamedTuple):
    """A piece of input that is read as a whole.

    name: stable name below the source's root; uri: where it is; tag: its state (size and mtime, or etag);
    start, end: a range of it (bytes or rows, the source's choice), end 0 meaning all; many: whether it holds many
    samples (a table, a tar) or about one (a file of a folder).
    """

    name: str
    uri: str
    tag: str
    start: int = 0
    end: int = 0
    many: bool = True


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


InputPath = Annotated[str, AfterValidator(_absolute)]
"""A path (made absolute, from the folder where the command runs) or an fsspec URI."""


@options
class Source(Stage):
    """Makes the first rows from files."""

    source: str = ""
    """Name of the corpus: keys begin with it, and the `source` column holds it. The flow's name when left out."""
    license: str | None = None
    """Licence of samples that state none themselves (SPDX identifier)."""
    origin: str | None = None
    """URL of the corpus, for samples that state none themselves."""
    unit: Annotated[int, Field(ge=1)] = 1000
    """Samples in a unit of work: what is committed at once and lost at most when a worker dies."""

    def kinds(self) -> dict[str, str]:
        """How each column is made: part of the fingerprint, for it may have been learnt from the input."""
        return {name: str(kind) for name, kind in self.writes().fields.items()}

    def origins(self) -> Iterator[Origin]:
        """The pieces of input, in a stable order."""
        raise NotImplementedError

    def read(self, origin: Origin) -> Iterator[New | Reject | pa.Table]:
        """The rows of one piece; a piece that is broken from some point on ends with a Reject that says so.

        Many rows at once may come as a table with all columns that `writes` declares, and their local ids as `key`.
        """
        raise NotImplementedError


class Group(NamedTuple):
    """Adjacent rows of an index file: its row group, rows, bytes in memory, content digests of the leaf columns."""

    uri: str
    group: int
    rows: int
    bytes: int
    digests: Mapping[str, str]


@options
class Indexed(Stage):
    """Rows that stand in the index of a published data set: they are used where they are, nothing is read before."""

    def groups(self) -> Sequence[Group]:
        """All rows, in order."""
        raise NotImplementedError


class Map(Stage):
    """One sample in, one result out. Filters are maps that return KEEP or Reject."""

    def each(self, sample: Sample) -> New | Reject:
        raise NotImplementedError


class Columnar(Stage):
    """Whole tables at once, for work on columns alone."""

    def table(self, rows: pa.Table) -> pa.Table:
        """The written columns, row by row for `rows` (`key` and the declared paths); `_drop` may hold reasons."""
        raise NotImplementedError


@options
class Batch(Stage):
    """Work with a model, in batches that are a function of the unit alone."""

    model: str
    """Name of the model in the recipe's `models`."""

    budget: ClassVar[int] = 16
    """The total cost of a batch."""

    def cost(self, sample: Sample) -> int:
        """How much of the budget a sample takes. Samples of like cost are batched together."""
        return 1

    def batch(self, model: Any, samples: Sequence[Sample]) -> list[New | Reject]:
        """One result for each sample, in order."""
        raise NotImplementedError


class Expand(Stage):
    """One sample in, any number out; children inherit the columns and parts of their parent."""

    def each(self, sample: Sample) -> Iterator[New] | Reject:
        raise NotImplementedError


class Gather(Stage):
    """Work that must know all rows: a summary of each unit, merged in unit order, then applied to each unit."""

    def partial(self, rows: pa.Table) -> pa.Table:
        """A small summary of one unit."""
        raise NotImplementedError

    def merge(self, partials: Iterator[pa.Table]) -> pa.Table:
        """All summaries become one; they arrive in unit order."""
        raise NotImplementedError

    def apply(self, merged: pa.Table, rows: pa.Table) -> pa.Table:
        """As Columnar.table."""
        raise NotImplementedError


@options
class Combine(Stage):
    """Rows of several flows become rows of one. Rows are cut into buckets by the hash of a column."""

    buckets: Annotated[int, Field(ge=1, le=4096)] = 16
    """How many pieces the result is cut into; a function of the recipe, never of the machine."""

    def inputs(self) -> dict[str, str]:
        """Name of each input -> the flow it comes from."""
        raise NotImplementedError

    def bucket_on(self, name: str) -> str:
        """The column of an input that decides the bucket."""
        raise NotImplementedError

    def types(self, inputs: Mapping[str, Types]) -> dict[str, pa.DataType]:
        """The result's column types. Raises ValueError(message)."""
        raise NotImplementedError

    def rows(self, inputs: Mapping[str, pa.Table]) -> pa.Table:
        """One bucket: all columns of the inputs' live rows in, all columns of the result out (with `key`)."""
        raise NotImplementedError


class Chosen(NamedTuple):
    """What is taken of one input: for each row how often (int32), and whether it could not be judged (bool)."""

    copies: np.ndarray[Any, Any]
    unmeasured: np.ndarray[Any, Any]


class Share(NamedTuple):
    """How an input fared: its size, what its weight asks for, what was taken, by how much it was too small."""

    source: str
    size: int
    wanted: int
    taken: int
    short: int


class Choice(Stage):
    """Rows of several flows, each any number of times. What is not taken is counted, not rejected."""

    def inputs(self) -> tuple[str, ...]:
        """The flows."""
        raise NotImplementedError

    def measured(self) -> dict[str, pa.DataType]:
        """Columns of every input that `partial` needs, besides the keys."""
        raise NotImplementedError

    def types(self, inputs: Mapping[str, Types]) -> dict[str, pa.DataType]:
        """The result's column types. Raises ValueError(message)."""
        raise NotImplementedError

    def partial_spec(self) -> Any:
        """The options that decide `partial`: where only others change, its results are used again."""
        return self.options()

    def partial(self, name: str, rows: pa.Table) -> pa.Table:
        """What must be known of the rows of one unit, row by row."""
        raise NotImplementedError

    def merge(self, partials: Mapping[str, Sequence[pa.Table]]) -> tuple[dict[str, Chosen], list[Share]]:
        """What is taken of each input, in the order of its partials."""
        raise NotImplementedError

    def keys(self, name: str, keys: pa.Array) -> pa.Array:
        """The keys of an input's rows in the result."""
        raise NotImplementedError

    def order(self, keys: pa.Array) -> pa.Array:
        """The packing order of rows with these keys."""
        raise NotImplementedError
