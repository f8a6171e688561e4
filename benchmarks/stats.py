"""`omnicurate stats` over millions of samples, beside one DuckDB query that computes the same tables.

Both are fresh processes that take turns; the time of an interpreter that does nothing is taken off. The query takes its
quantiles from the same share of samples as we do. The data set is made up, in the form in which a pack publishes: index
files of 100,000 rows with their media, texts and scores, and a manifest.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import omnicurate  # noqa: F401 - its packages, wherever this is started
from schemas.columns import PART
from schemas.digest import canonical_json
from schemas.manifest import INDEX_DIR, MANIFEST, SHARDS_DIR, Manifest, Shard

ROOT = Path(__file__).resolve().parent.parent
SHARD = 100_000
PICKED = 100_000  # samples that quantiles are made of
MEDIA = ("image", "audio", "video")
FORMATS = ("jpg", "flac", "mp4")
SOURCES = ("laion", "librispeech", "webvid", "books")
TASKS = ("caption", "asr", "video_qa", "ocr", "sound", "dialogue")
FIRST = np.array([0, 1, 2, 0, 1, -1])  # the medium of each task; that of video_qa has a sound track besides
LANGUAGES = ("en", "zh", "de", "fr", "es")
PHRASES = (
    "a dog runs across a wide green meadow behind two children",
    "the speaker explains why the harbour was rebuilt after the war",
    "a close view of a wooden table with bread, cheese and a knife",
    "what does the man in the red coat put into the basket?",
)

# What `stats` prints: totals and four tables of groups with sums and medians, quantiles of the numbers.
PEER = """
SELECT source, task, language, modality, count(*), sum(bytes), sum(loss.tokens), sum(duration), {quantiles} FROM (
    SELECT source, task, language, duration, width, height, loss, hash(file_row_number) % {every} = 0 AS picked,
        list_sum(list_transform(parts, lambda p: p.size)) AS bytes,
        list_transform(parts, lambda p: p.format)::VARCHAR || (text IS NOT NULL)::VARCHAR AS modality
    FROM read_parquet('{index}/*.parquet')
) GROUP BY GROUPING SETS ((), (source), (task), (language), (modality))
"""
NUMBERS = ("duration", "width", "height", "loss.mean", "loss.tokens", "loss.share")


def make(folder: Path, samples: int) -> Path:
    """A published data set of that many samples; one that is there already is taken."""
    version = folder / f"stats-{samples}" / "00000000"
    if (version / MANIFEST).exists():
        return version
    for name in (INDEX_DIR, SHARDS_DIR):
        (version / name).mkdir(parents=True, exist_ok=True)
    shards = []
    for number, start in enumerate(range(0, samples, SHARD)):
        name = f"made-{number:06d}"
        rows = min(SHARD, samples - start)
        table = _rows(start, rows, f"{SHARDS_DIR}/{name}.tar")
        pq.write_table(table, version / INDEX_DIR / f"{name}.parquet", compression="zstd", row_group_size=10_000)
        (version / SHARDS_DIR / f"{name}.tar").touch()
        shards.append(Shard(name=f"{name}.tar", samples=rows, bytes=1 << 30, digest="", index_digest=""))
    types = {field.name: str(field.type) for field in table.schema}
    manifest = Manifest(
        dataset="made",
        version=version.name,
        recipe={},
        seed=0,
        steps=[],
        samples=samples,
        rejected=0,
        bytes=len(shards) << 30,
        shards=shards,
        rejected_files=[],
        columns=types,
        sources={},
        licenses={},
    )
    (version / MANIFEST).write_text(canonical_json(manifest.model_dump()))
    return version


def _rows(start: int, rows: int, tar: str) -> pa.Table:
    random = np.random.default_rng(start)
    task = random.choice(len(TASKS), rows, p=[0.3, 0.25, 0.2, 0.15, 0.06, 0.04])
    first = FIRST[task]
    counts = np.where(first < 0, 0, np.where(first == 2, 2, 1)).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    row = np.repeat(np.arange(rows), counts)
    second = np.concatenate([[False], row[1:] == row[:-1]])
    medium = np.where(second, 1, first[row])
    sizes = random.integers(20_000, 400_000, len(row))
    fields = {
        "name": _words(MEDIA, medium),
        "format": _words(FORMATS, medium),
        "uri": _words((tar,), np.zeros(len(row), int)),
        "offset": pa.array(np.cumsum(sizes)),
        "size": pa.array(sizes),
        "view": pa.nulls(len(row), pa.string()),
        "tag": pa.nulls(len(row), pa.string()),
        "digest": pa.Array.from_buffers(pa.binary(16), len(row), [None, pa.py_buffer(random.bytes(16 * len(row)))]),
    }
    place = np.arange(start, start + rows).astype(str)
    phrases = np.array(PHRASES)
    columns: dict[str, Any] = {
        "key": np.char.add("made/", np.char.zfill(place, 9)),
        "parts": pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(list(fields.values()), fields=list(PART))),
        "text": np.char.add(phrases[random.integers(0, len(PHRASES), rows)], place),
        "source": _words(SOURCES, random.choice(len(SOURCES), rows)),
        "task": _words(TASKS, task),
        "language": _words(LANGUAGES, random.choice(len(LANGUAGES), rows, p=[0.5, 0.3, 0.1, 0.05, 0.05])),
        "duration": pa.array(np.round(random.gamma(2, 4, rows), 3), mask=(first != 1) & (first != 2)),
        "width": _sizes(random, (320, 640, 1280, 1920), rows, (first != 0) & (first != 2)),
        "height": _sizes(random, (240, 480, 720, 1080), rows, (first != 0) & (first != 2)),
        "loss": pa.StructArray.from_arrays(
            [pa.array(random.normal(1.5, 0.4, rows)), pa.array(random.integers(5, 400, rows)), random.random(rows)],
            ["mean", "tokens", "share"],
        ),
    }
    return pa.table(columns)


def _words(words: tuple[str, ...], which: np.ndarray[Any, Any]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(words)).cast(pa.string())


def _sizes(random: np.random.Generator, sizes: tuple[int, ...], rows: int, none: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(random.choice(sizes, rows).astype(np.int32), mask=none)


def taken(*arguments: str) -> float:
    """Seconds of a fresh Python with these arguments."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    return time.perf_counter() - start


def main() -> None:
    """Make the data set, let both take turns, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    version = make(ROOT / "build" / "benchmarks", arguments.samples)
    quantiles = ", ".join(f"quantile_disc({name}, [0.05, 0.5, 0.95]) FILTER (picked)" for name in NUMBERS)
    every = -(-arguments.samples // PICKED)
    query = PEER.format(quantiles=quantiles, every=every, index=version / INDEX_DIR)
    peer = f"import duckdb; print(duckdb.execute({query!r}).fetchall())"
    commands = {"us": ["-m", "omnicurate", "stats", str(version)], "peer": ["-c", peer], "python": ["-c", "pass"]}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(arguments.rounds + 1):
        for name, command in commands.items():
            found = taken(*command)
            if turn:
                seconds[name].append(found)
    start = statistics.median(seconds["python"])
    us, other = (statistics.median(seconds[name]) - start for name in ("us", "peer"))
    print(f"{arguments.samples:,} samples, without the {start:.2f} s in which Python starts")
    print(f"omnicurate stats  {us:.2f} s  (fastest {min(seconds['us']) - start:.2f})")
    print(f"one DuckDB query  {other:.2f} s  (fastest {min(seconds['peer']) - start:.2f})")
    print(f"stats ratio={other / us:.2f} goal=1 seconds={us:.2f}")


if __name__ == "__main__":
    main()
