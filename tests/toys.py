"""Small stages for the tests of the engine. Recipes name them as `tests.toys:Numbers`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from schemas.columns import Columns
from schemas.errors import SampleError
from schemas.sample import Media, Sample
from stages.base import Batch, Columnar, Expand, Gather, InputPath, Map, Model, New, Origin, Reject, Source, options


@options
class Numbers(Source):
    """Rows 0 … n-1 of each file of a folder; the file holds n."""

    root: InputPath

    def writes(self) -> Columns:
        return Columns({"n": pa.int64(), "text": pa.string()})

    def origins(self) -> Iterator[Origin]:
        for path in sorted(Path(self.root).glob("*.txt")):
            status = path.stat()
            yield Origin(path.name, str(path), f"{status.st_size}-{status.st_mtime_ns}")

    def read(self, origin: Origin) -> Iterator[New | Reject]:
        for n in range(int(Path(origin.uri).read_text())):
            yield New({"n": n, "text": f"number {n}"}, key=f"{origin.name}/{n}")


@options
class Square(Map):
    """Writes n squared and a medium of its digits, n % 7 times over; rejects multiples of `bad`. `ms`: its slowness."""

    bad: int = 0
    crash_on: int = -1
    ms: float = 0
    log: str | None = None
    reasons = ("multiple",)

    def reads(self) -> Columns:
        return Columns({"n": pa.int64()})

    def writes(self) -> Columns:
        return Columns({"value": pa.int64()}, ("blob",))

    def each(self, sample: Sample) -> New | Reject:
        n = sample["n"]
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{sample.key}\n")
        time.sleep(self.ms / 1000)
        if n == self.crash_on:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.bad and n % self.bad == 0:
            return Reject("multiple", f"of {self.bad}")
        return New({"value": n * n}, {"blob": Media(b"%d" % n * (n % 7), "bin")})


@options
class Mark(Map):
    """Copies the text; light, and of no interest to who reads numbers."""

    prefix: str = ""
    log: str | None = None

    def reads(self) -> Columns:
        return Columns({"text": pa.string()})

    def writes(self) -> Columns:
        return Columns({"mark": pa.string()})

    def each(self, sample: Sample) -> New | Reject:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{sample.key}\n")
        return New({"mark": self.prefix + sample["text"]})


@options
class Length(Columnar):
    """The length of the text."""

    def reads(self) -> Columns:
        return Columns({"text": pa.string()})

    def writes(self) -> Columns:
        return Columns({"letters": pa.int64()})

    def table(self, rows: pa.Table) -> pa.Table:
        return pa.table({"letters": [len(t) for t in rows.column("text").to_pylist()]})


@options
class Twins(Expand):
    """Two children for each row, three where n is a multiple of ten, none where it is 13."""

    def reads(self) -> Columns:
        return Columns({"n": pa.int64()})

    def writes(self) -> Columns:
        return Columns({"child": pa.int64()})

    def each(self, sample: Sample) -> Iterator[New] | Reject:
        n = sample["n"]
        count = 0 if n == 13 else 3 if n % 10 == 0 else 2
        return iter([New({"child": i}) for i in range(count)])


@options
class AboveMean(Gather):
    """Keeps rows whose n is at least the mean of all."""

    reasons = ("below_mean",)

    def reads(self) -> Columns:
        return Columns({"n": pa.int64()})

    def writes(self) -> Columns:
        return Columns({"mean": pa.float64()})

    def partial(self, rows: pa.Table) -> pa.Table:
        values = rows.column("n").to_pylist()
        return pa.table({"sum": [sum(values)], "count": [len(values)]})

    def merge(self, partials: Iterator[pa.Table]) -> pa.Table:
        table = pa.concat_tables(list(partials))
        return pa.table({"mean": [sum(table["sum"].to_pylist()) / sum(table["count"].to_pylist())]})

    def apply(self, merged: pa.Table, rows: pa.Table) -> pa.Table:
        mean = merged["mean"][0].as_py()
        values = rows.column("n").to_pylist()
        drops = ["below_mean" if n < mean else None for n in values]
        return pa.table({"mean": [mean] * len(values), "_drop": pa.array(drops, pa.string())})


@options
class Adder(Model):
    """A model that adds a number; it counts its loads in a file."""

    add: int = 1
    log: str | None = None

    def load(self) -> int:
        if self.log:
            with open(self.log, "a") as file:
                file.write("load\n")
        return self.add


@options
class AddBatch(Batch):
    """Adds with the model and tells how large its batch was; a batch that holds `poison` fails as a whole.

    `crash_on` kills the worker, `crash_with` too unless it is alone in its batch (as memory that runs out would).
    """

    poison: int = -1
    crash_on: int = -1
    crash_with: int = -1
    ms: float = 0
    log: str | None = None
    budget = 8

    def reads(self) -> Columns:
        return Columns({"n": pa.int64()})

    def writes(self) -> Columns:
        return Columns({"sum": pa.int64(), "batch": pa.int64()})

    def batch(self, model: int, samples: list[Sample]) -> list[New | Reject]:
        if self.log:
            with open(self.log, "a") as file:
                file.writelines(f"{sample.key}\n" for sample in samples)
        time.sleep(self.ms * len(samples) / 1000)
        numbers = [sample["n"] for sample in samples]
        if self.crash_on in numbers or (self.crash_with in numbers and len(numbers) > 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.poison in numbers:
            raise ValueError("poison")
        return [New({"sum": sample["n"] + model, "batch": len(samples)}) for sample in samples]


@options
class Picky(Map):
    """Fails in different ways."""

    def reads(self) -> Columns:
        return Columns({"n": pa.int64()})

    def writes(self) -> Columns:
        return Columns({"half": pa.int64()})

    def each(self, sample: Sample) -> New | Reject:
        n = sample["n"]
        if n % 10 == 3:
            raise ValueError("three")
        if n % 10 == 4:
            raise SampleError("four")
        if n % 10 == 5:
            return New({"half": "a text"})
        return New({"half": n // 2})
