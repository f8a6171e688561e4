"""Reading shards against webdataset: python -m benchmarks.shards_read

Both read the same local shard (ours) from the page cache, group members by key and hand out every part's bytes,
whose length and first byte are looked at. Nothing is decoded.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import webdataset

from benchmarks._harness import Timing, compare, report
from benchmarks.shards_write import make_samples, write_ours
from schemas.shards import read_samples

GOAL = 25.0


def measure(label: str, count: int, size: int, folder: Path) -> Timing:
    """Time both at one size of samples."""
    samples = make_samples(count, size)
    expected = sum(len(record) + len(media) + record[0] + media[0] for _, record, media in samples)
    path = folder / "shard.tar"
    write_ours(path, samples)
    del samples

    def check(total: int) -> None:
        if total != expected:
            raise SystemExit(f"{label}: not all bytes were read")

    def ours() -> None:
        total = 0
        for _, parts in read_samples(path):
            for data in parts.values():
                total += len(data) + data[0]
        check(total)

    def peer() -> None:
        total = 0
        for sample in webdataset.WebDataset(str(path), shardshuffle=False):
            for extension, data in sample.items():
                if not extension.startswith("__"):
                    total += len(data) + data[0]
        check(total)

    return compare(label, count, ours, peer)


def main() -> None:
    """Run the comparison and print it."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        timings = [
            measure("3 KB", 20_000, 3_000, Path(folder)),
            measure("300 KB", 400, 300_000, Path(folder)),
        ]
    report("shards_read", timings, GOAL, peer="webdataset")


if __name__ == "__main__":
    main()
