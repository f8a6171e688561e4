"""Writing shards against `webdataset.TarWriter`: python -m benchmarks.shards_write

Both get rendered JSON and media bytes in memory, and end with an fsync of a new file on the same disk. Ours also
computes BLAKE3 digests of all members and of the shard.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from pathlib import Path

import webdataset

from benchmarks._harness import Timing, compare, report
from schemas.shards import ShardWriter

GOAL = 12.0
Samples = list[tuple[str, bytes, bytes]]  # key, JSON, media
BATCH = 512  # samples handed over at once, as a pack unit does


def make_samples(count: int, size: int) -> Samples:
    """Samples with some 240 bytes of JSON and `size` bytes of media, give or take a third."""
    random_ = random.Random(size)
    noise = random_.randbytes(4 * size)
    rows = []
    for index in range(count):
        text = f"A photograph, number {index}, of a harbour in the evening."
        messages = [{"role": "user", "content": "What is this?"}, {"role": "assistant", "content": text}]
        record = {"messages": messages, "source": "harbour", "task": "caption", "loss": random_.random()}
        start, length = random_.randrange(2 * size), random_.randint(2 * size // 3, 4 * size // 3)
        rows.append((f"harbour/{index:08d}", json.dumps(record).encode(), noise[start : start + length]))
    return rows


def write_ours(path: Path, samples: Samples) -> None:
    """One shard, by ShardWriter."""
    with ShardWriter(path) as writer:
        for first in range(0, len(samples), BATCH):
            names: list[str] = []
            data: list[bytes] = []
            for key, record, media in samples[first : first + BATCH]:
                names += (key + ".jpg", key + ".json")
                data += (media, record)
            writer.add_columns(names, data)


def write_webdataset(path: Path, samples: Samples) -> None:
    """One shard, by webdataset."""
    with open(path, "wb") as file:
        with webdataset.TarWriter(file) as writer:
            for key, record, media in samples:
                writer.write({"__key__": key, "jpg": media, "json": record})
        file.flush()
        os.fsync(file.fileno())


def measure(label: str, count: int, size: int, folder: Path) -> Timing:
    """Time both at one size of samples."""
    samples = make_samples(count, size)
    path = folder / "shard.tar"

    def before() -> None:
        path.unlink(missing_ok=True)  # emptying a large file takes time that is nobody's
        os.sync()

    return compare(
        label,
        count,
        lambda: write_ours(path, samples),
        lambda: write_webdataset(path, samples),
        before=before,
    )


def main() -> None:
    """Run the comparison and print it."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        timings = [
            measure("3 KB", 20_000, 3_000, Path(folder)),
            measure("300 KB", 400, 300_000, Path(folder)),
        ]
    report("shards_write", timings, GOAL, peer="webdataset")


if __name__ == "__main__":
    main()
