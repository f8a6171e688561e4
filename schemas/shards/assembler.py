"""Writing a shard in any order, for a pack that reads its sources in their order.

The layout (names and sizes in final order) is known first, so each member has its place; the result is, byte
for byte and digest for digest, the shard that ShardWriter writes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from blake3 import blake3

from schemas.errors import DataError, StoreError
from schemas.shards.header import header_size, headers, padded
from schemas.shards.sink import (
    BATCH_MEMBERS,
    DIGEST_BYTES,
    Data,
    Output,
    WrittenColumns,
    feed,
    sizes_of,
)


class ShardAssembler(Output):
    """Writes one tar whose members' `names` and `sizes` (bytes of data) are known, in any order.

    `target`, `sync` and the context manager as in ShardWriter. Holds some 50 bytes a member, besides its
    name. `close` raises StoreError if members are missing.
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

    def put(
        self, places: Sequence[int], data: Sequence[Data], digests: Sequence[bytes | None] | None = None
    ) -> WrittenColumns:
        """Write the members at these places of the layout, given in any order; neighbours go out together.

        Raises DataError where data have not the planned size, else as ShardWriter.add_columns.
        """
        sizes = sizes_of(data)
        for place, size in zip(places, sizes, strict=True):
            if size != self._sizes[place]:
                raise DataError(
                    f"{self._names[place]} has {size} bytes where {self._sizes[place]} were planned",
                    "its source changed after it was indexed: ingest it again",
                )
        offsets = [self._starts[place + 1] - padded(size) for place, size in zip(places, sizes, strict=True)]
        resolved, known = self._sink.resolve(data, digests, offsets)
        heads = headers([self._names[place] for place in places], sizes)
        rows = list(places)
        self._digests[rows] = np.frombuffer(b"".join(known), np.uint8).reshape(-1, DIGEST_BYTES)
        self._present[rows] = True
        run: list[int] = []
        for row in sorted(range(len(rows)), key=rows.__getitem__):
            if run and rows[row] != rows[run[-1]] + 1:
                self._put(rows[run[0]], run, heads, resolved, sizes)
                run = []
            run.append(row)
        if run:
            self._put(rows[run[0]], run, heads, resolved, sizes)
        return WrittenColumns(offsets, sizes, known)

    def _summary(self) -> tuple[int, int, str]:
        missing = len(self._names) - int(self._present.sum())
        if missing:
            raise StoreError(f"{missing} of the {len(self._names)} members of a shard were never written")
        state = blake3()
        for first in range(0, len(self._names), BATCH_MEMBERS):  # 512 bytes a member were too many to keep
            chunk = slice(first, first + BATCH_MEMBERS)
            feed(state, headers(self._names[chunk], self._sizes[chunk]), map(bytes, self._digests[chunk]))
        return self._starts[-1], len(self._names), state.digest(DIGEST_BYTES).hex()

    def _put(
        self,
        place: int,
        run: Sequence[int],
        heads: Sequence[bytes],
        data: Sequence[Data | None],
        sizes: Sequence[int],
    ) -> None:
        self._sink.put(
            self._starts[place], [heads[row] for row in run], [data[row] for row in run], [sizes[row] for row in run]
        )
