"""Writing a shard from its first member to its last."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from blake3 import blake3

from schemas.shards.header import TRAILER, headers, padded
from schemas.shards.sink import (
    DIGEST_BYTES,
    Data,
    Output,
    ShardInfo,
    Written,
    batches,
    feed,
    size_of,
)


class Entry(NamedTuple):
    """A member to write. `digest` is the BLAKE3-128 of its data (16 bytes), computed where it is None.

    A Range whose digest is known is copied without being read.
    """

    name: str
    data: Data
    digest: bytes | None = None


class ShardWriter(Output):
    """Writes one tar; equal entries give equal bytes, however they are split over calls of `add`.

    `target`: a path (created, or emptied if it exists) or a descriptor of an empty file, which stays open;
    `sync`: fsync before `close` returns. As a context manager it closes on success and aborts on an error.
    """

    def __init__(self, target: str | os.PathLike[str] | int, *, sync: bool = True) -> None:
        super().__init__(target, sync)
        self._end = 0
        self._members = 0
        self._digest = blake3()

    def add(self, entries: Iterable[Entry]) -> list[Written]:
        """Append members; says where their data will be. A call costs some 50 us, so give it many entries.

        Entries are taken from an iterator about 4 MiB at a time. Raises DataError for a name that no tar can
        hold or a Range beyond the end of its file, and OSError when the disk is full; the shard is then lost.
        """
        written: list[Written] = []
        for batch in batches(entries):
            written += self._append(batch)
        return written

    def close(self) -> ShardInfo:
        """Write the end of the tar, wait for the disk and close. Raises OSError when the disk is full."""
        self._sink.finish(self._end, TRAILER)
        return ShardInfo(self._end + len(TRAILER), self._members, self._digest.digest(DIGEST_BYTES).hex())

    def _append(self, batch: Sequence[Entry]) -> list[Written]:
        names = [entry[0] for entry in batch]
        data: list[Data] = [entry[1] for entry in batch]
        sizes = [len(part) if type(part) is bytes else size_of(part) for part in data]
        heads = headers(names, sizes)
        end = self._end
        offsets = []
        for head, size in zip(heads, sizes, strict=True):
            end += len(head)
            offsets.append(end)
            end += padded(size)
        resolved, digests = self._sink.resolve(data, [entry[2] for entry in batch], offsets)
        feed(self._digest, heads, digests)
        self._sink.put(self._end, heads, resolved, sizes)
        self._end = end
        self._members += len(batch)
        return list(map(Written, offsets, sizes, digests))
