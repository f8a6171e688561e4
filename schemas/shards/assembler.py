"""Writing a shard in any order, for a pack that reads its sources in their order.

The layout (names and sizes in final order) is known first, so each member has its place; the result is, byte
for byte and digest for digest, the shard that ShardWriter writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from blake3 import blake3

from schemas.errors import DataError, StoreError
from schemas.shards.header import TRAILER, header_size, headers, padded
from schemas.shards.sink import (
    BATCH_MEMBERS,
    DIGEST_BYTES,
    Data,
    Output,
    ShardInfo,
    Written,
    batches,
    feed,
    size_of,
)


class Placed(NamedTuple):
    """The data of the `place`-th member of the layout. `digest` as in Entry."""

    place: int
    data: Data
    digest: bytes | None = None


class ShardAssembler(Output):
    """Writes one tar whose members' `names` and `sizes` (bytes of data) are known, in any order.

    `target`, `sync` and the context manager as in ShardWriter. Holds some 50 bytes a member, besides its
    name. Raises DataError for a name that no tar can hold.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | int,
        names: Sequence[str],
        sizes: Sequence[int],
        *,
        sync: bool = True,
    ) -> None:
        super().__init__(target, sync)
        self._names = names
        self._sizes = sizes
        ends = np.cumsum([0, *(header_size(n, s) + padded(s) for n, s in zip(names, sizes, strict=True))])
        self._starts = ends.tolist()  # of each member's header; the last is the end
        self._digests = np.zeros((len(names), DIGEST_BYTES), np.uint8)
        self._present = np.zeros(len(names), np.bool_)

    def put(self, parts: Iterable[Placed]) -> list[Written]:
        """Write members, in any order; adjacent ones that come together are written together.

        Raises DataError where data have not the planned size (their source changed), else as ShardWriter.add.
        """
        written: list[Written] = []
        for batch in batches(parts):
            written += self._place(batch)
        return written

    def close(self) -> ShardInfo:
        """Write the end of the tar, wait for the disk and close. Raises StoreError if members are missing."""
        missing = len(self._names) - int(self._present.sum())
        if missing:
            self.abort()
            raise StoreError(f"{missing} of the {len(self._names)} members of a shard were never written")
        state = blake3()
        for first in range(0, len(self._names), BATCH_MEMBERS):  # 512 bytes a member were too many to keep
            chunk = slice(first, first + BATCH_MEMBERS)
            feed(state, headers(self._names[chunk], self._sizes[chunk]), map(bytes, self._digests[chunk]))
        end = self._starts[-1]
        self._sink.finish(end, TRAILER)
        return ShardInfo(end + len(TRAILER), len(self._names), state.digest(DIGEST_BYTES).hex())

    def _place(self, batch: Sequence[Placed]) -> list[Written]:
        order = sorted(range(len(batch)), key=lambda row: batch[row].place)
        indices = [batch[row].place for row in order]
        data = [batch[row].data for row in order]
        sizes = list(map(size_of, data))
        for index, size in zip(indices, sizes, strict=True):
            if size != self._sizes[index]:
                raise DataError(
                    f"{self._names[index]} has {size} bytes where {self._sizes[index]} were planned",
                    "its source changed after it was indexed: ingest it again",
                )
        offsets = [self._starts[index + 1] - padded(size) for index, size in zip(indices, sizes, strict=True)]
        resolved, digests = self._sink.resolve(data, [batch[row].digest for row in order], offsets)
        heads = headers([self._names[index] for index in indices], sizes)
        self._digests[indices] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
        self._present[indices] = True
        first = 0
        for after in range(1, len(indices) + 1):
            if after == len(indices) or indices[after] != indices[after - 1] + 1:
                run = slice(first, after)
                self._sink.put(self._starts[indices[first]], heads[run], resolved[run], sizes[run])
                first = after
        written = dict(zip(order, map(Written, offsets, sizes, digests), strict=True))
        return [written[row] for row in range(len(batch))]
