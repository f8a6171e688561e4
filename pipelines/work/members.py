"""The members of a shard: records and parts in the order of the samples, read from wherever the parts are."""

from __future__ import annotations

import os
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.work.bench import Bench
from pipelines.work.parts import PartColumns
from schemas.errors import DataError, SampleError
from schemas.sample import Part
from schemas.shards.sink import READ_BELOW
from schemas.shards.source import Range
from schemas.shards.writer import ShardWriter
from schemas.store import STORE_SCHEME, is_local, local_path

_WINDOW_BYTES = 64 << 20
_WINDOW_SAMPLES = 4096


def write_members(
    bench: Bench, tar: ShardWriter, keys: pa.Array, records: list[bytes], parts: PartColumns
) -> tuple[npt.NDArray[np.int64], list[bytes]]:
    """Write every sample's record and parts. Returns where the parts went, and their digests.

    It goes window by window; a window's parts are read (or announced to the kernel) in the order in which they lie in
    their files, which is what cold disks need. Raises DataError where a medium is not what was indexed.
    """
    names = [f"{key}.json" for key in keys.to_pylist()]
    part_names = parts.member_names(keys)
    known = parts.field("digest").to_pylist()
    sizes = np.fromiter(map(len, records), np.int64) + np.bincount(parts.rows, parts.sizes, len(keys))
    ends = np.cumsum(sizes)
    offsets = np.zeros(len(parts), np.int64)
    digests: list[bytes] = []
    first = 0
    while first < len(keys):
        before = ends[first - 1] if first else 0
        last = int(np.searchsorted(ends, before + _WINDOW_BYTES, side="right"))
        last = min(max(first + 1, last), first + _WINDOW_SAMPLES, len(keys))
        chosen = slice(int(parts.starts[first]), int(parts.starts[last]))
        count = last - first + chosen.stop - chosen.start
        at_part = np.arange(chosen.stop - chosen.start) + parts.rows[chosen] - first + 1
        at_record = np.arange(last - first) + parts.starts[first:last] - parts.starts[first]
        members = np.empty((3, count), object)  # names, data, digests
        members[0, at_record], members[1, at_record] = names[first:last], records[first:last]
        members[:, at_part] = part_names[chosen], _read(bench, parts, chosen), known[chosen]
        written = tar.add_columns(*members.tolist())
        offsets[chosen] = np.array(written.offsets, np.int64)[at_part]
        digests += map(written.digests.__getitem__, at_part.tolist())
        first = last
    return offsets, digests


def _read(bench: Bench, parts: PartColumns, chosen: slice) -> npt.NDArray[np.object_]:
    """The bytes of some parts: short ones, and what is not local, are read; the others are ranges for the kernel."""
    uris = parts.field("uri")[chosen].dictionary_encode()
    file_of = uris.indices.to_numpy()
    starts, sizes = parts.field("offset").to_numpy()[chosen], parts.sizes[chosen]
    found = np.empty(len(sizes), object)
    for index, uri in enumerate(uris.dictionary.to_pylist()):
        mine = np.flatnonzero(file_of == index)
        mine = mine[np.argsort(starts[mine], kind="stable")]
        where = bench.store.path(uri[len(STORE_SCHEME) :]) if uri.startswith(STORE_SCHEME) else uri
        try:
            for tag in pc.unique(parts.field("tag")[chosen].take(pa.array(mine))).to_pylist():
                if is_local(where):
                    handle = bench.reader.handle(local_path(where), tag)
            if is_local(where):
                data: list[Any] = _local(handle, local_path(where), starts[mine].tolist(), sizes[mine].tolist())
            else:
                spans = zip(starts[mine].tolist(), sizes[mine].tolist(), strict=True)
                data = [bench.reader(Part("", "", uri, start, size)) for start, size in spans]
        except SampleError as error:
            message = f"{uri} is not what it was when it was indexed ({error.reason})"
            remedy = "restore it, or touch the file that lists it: then it is ingested anew"
            raise DataError(message, remedy) from None
        found[mine] = np.fromiter(data, object, len(data))
    return found


def _local(handle: int, path: str, starts: list[int], sizes: list[int]) -> list[bytes | Range]:
    """Parts of a local file."""
    found: list[bytes | Range] = []
    if max(sizes, default=0) < READ_BELOW:  # what the loop does, in two thirds of the time
        found += map(os.pread, repeat(handle), sizes, starts)
        if list(map(len, found)) == sizes:
            return found
    found = []
    for start, size in zip(starts, sizes, strict=True):
        data = os.pread(handle, size, start) if size < READ_BELOW else b""
        if size >= READ_BELOW and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, start, size, os.POSIX_FADV_WILLNEED)
        # The writer says what is wrong with a range that is too short.
        found.append(data if len(data) == size else Range(path, start, size))
    return found
