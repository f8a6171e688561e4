"""Light text work that several benchmarks share: four plain functions, and the same four as steps of a recipe."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import unicodedata
import zlib
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from schemas.columns import Columns
from schemas.sample import Sample
from stages.base import KEEP, Map, New, Reject, options

MAX_REPETITION = 0.2  # share of three-word runs that occur more than once
_SHINGLE = 5  # words
_NO_TEXT = re.compile(r"[\u0000-\u001f\u007f-\u009f\u200b-\u200f\ufeff]+")
_SYMBOLS = re.compile(r"[^\w\s]")


class Statistics(NamedTuple):
    """Figures of one text."""

    letters: int
    words: int
    mean_word: float
    symbols: float


def clean(text: str) -> str:
    """NFKC, no control or zero-width characters, single spaces."""
    return " ".join(_NO_TEXT.sub(" ", unicodedata.normalize("NFKC", text)).split())


def statistics(text: str) -> Statistics:
    """Letters, words, mean length of a word, share of symbols."""
    words = text.split()
    symbols = len(_SYMBOLS.findall(text))
    letters = sum(map(len, words))
    return Statistics(letters, len(words), letters / max(1, len(words)), symbols / max(1, letters))


def repetition(text: str) -> float:
    """The share of three-word runs that occur more than once."""
    words = text.lower().split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def sketch(text: str) -> int:
    """The smallest hash of its runs of five words: equal for most near-duplicates."""
    words = text.lower().split()
    ends = range(_SHINGLE, max(_SHINGLE, len(words)) + 1)
    return min(zlib.crc32(" ".join(words[end - _SHINGLE : end]).encode()) for end in ends)


@options
class Clean(Map):
    """`clean` as a step."""

    def reads(self) -> Columns:
        """The text."""
        return Columns({"text": pa.string()})

    def writes(self) -> Columns:
        """The cleaned text, beside the original."""
        return Columns({"text": pa.string()}, own=True)

    def each(self, sample: Sample) -> New | Reject:
        """One text."""
        return New({"text": clean(sample["text"])})


@options
class Measure(Map):
    """`statistics` as a step."""

    def reads(self) -> Columns:
        """The cleaned text."""
        return Columns({"clean.text": pa.string()})

    def writes(self) -> Columns:
        """The figures."""
        kinds = (pa.int64(), pa.int64(), pa.float64(), pa.float64())
        return Columns(dict(zip(Statistics._fields, kinds, strict=True)))

    def each(self, sample: Sample) -> New | Reject:
        """One text."""
        return New(statistics(sample["clean.text"])._asdict())


@options
class Repetitive(Map):
    """`repetition` as a filter."""

    reasons = ("repetitive",)

    def reads(self) -> Columns:
        """The cleaned text."""
        return Columns({"clean.text": pa.string()})

    def each(self, sample: Sample) -> New | Reject:
        """One text."""
        return Reject("repetitive") if repetition(sample["clean.text"]) > MAX_REPETITION else KEEP


@options
class Sketch(Map):
    """`sketch` as a step."""

    def reads(self) -> Columns:
        """The cleaned text."""
        return Columns({"clean.text": pa.string()})

    def writes(self) -> Columns:
        """The hash."""
        return Columns({"hash": pa.int64()})

    def each(self, sample: Sample) -> New | Reject:
        """One text."""
        return New({"hash": sketch(sample["clean.text"])})


STEPS = """
    - benchmarks._light_stages:Clean: {as: clean}
    - benchmarks._light_stages:Measure: {as: measure}
    - benchmarks._light_stages:Repetitive: {as: repetitive}
    - benchmarks._light_stages:Sketch: {as: sketch}
"""

_SYLLABLES = re.findall("..?.?", "anbecondaellfigerhoinjakerlomennatorperquiransertionunverwilxayorzen")
_ODD = ("\u00a0", "  ", "\t", "\ufb01", "\uff21", "e\u0301", "\u200b", "\u2026", "\n")


def write_texts(folder: Path, count: int, files: int) -> list[Path]:
    """JSON lines of made-up captions of some 16 words, always the same; one in thirty repeats itself."""
    random_ = random.Random(7)
    words = ["".join(random_.choices(_SYLLABLES, k=random_.randint(1, 4))) for _ in range(20_000)]
    weights = list(itertools.accumulate(1 / rank for rank in range(3, len(words) + 3)))
    paths = [folder / f"texts-{number:03d}.jsonl" for number in range(files)]
    for number, path in enumerate(paths):
        with open(path, "w", encoding="utf-8") as file:
            for index in range(number * count // files, (number + 1) * count // files):
                row = {"id": f"{index:08d}", "text": _prose(random_, words, weights), "task": "caption"}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.sync()
    return paths


def _prose(random_: random.Random, words: list[str], weights: list[float]) -> str:
    sentences = []
    for _ in range(random_.randint(1, 2)):
        sentence = random_.choices(words, cum_weights=weights, k=random_.randint(5, 17))
        sentences.append(" ".join(sentence).capitalize() + random_.choice((". ", ". ", "! ", "? ", "; ")))
        if random_.random() < 0.3:
            sentences.append(random_.choice(_ODD))
    return "".join(sentences * 3 if random_.random() < 1 / 30 else sentences).strip()
