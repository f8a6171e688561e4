"""Digests, fingerprints and draws: everything that must come out the same on every machine.

Digests are BLAKE3 (128 bits). A fingerprint is the digest of canonical JSON. Random choices are never
drawn from a generator that has a state: they are a hash of (seed, stage, key), so they survive re-runs,
re-partitioning and any order of execution.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3
from xxhash import xxh3_64_intdigest, xxh3_128_digest

DIGEST_BYTES = 16


def digest(data: bytes | memoryview) -> bytes:
    """BLAKE3-128 of the data (16 bytes)."""
    return blake3(data).digest(DIGEST_BYTES)


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, UTF-8 as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """32 hex digits that name a JSON value."""
    return digest(canonical_json(value).encode()).hex()


def draw(seed: int, stage: str, key: str) -> int:
    """A uniform 63-bit integer that depends on (seed, stage, key) and nothing else."""
    return int(draws(seed, stage, [key])[0])


def draws(seed: int, stage: str, keys: Iterable[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`draw` for many keys: int64 array of shape (len(keys),).

    XXH3 (0.2 us a key) under a seed that is a digest of (seed, stage).
    """
    mixed = int.from_bytes(digest(f"{seed}\0{stage}".encode())[:8], "little")
    raw = np.fromiter(map(partial(xxh3_64_intdigest, seed=mixed), map(str.encode, keys)), np.uint64)
    return (raw >> np.uint64(1)).astype(np.int64)


def key_digests(keys: Iterable[str]) -> np.ndarray[Any, Any]:
    """XXH3-128 of each key, to find equal ones: dtype V16, shape (len(keys),)."""
    return np.frombuffer(b"".join(map(xxh3_128_digest, map(str.encode, keys))), dtype="V16")


def array_digest(array: pa.Array | pa.ChunkedArray) -> str:
    """Hex digest of an Arrow array's logical content: its values and nulls, whatever its buffers hold elsewhere."""
    state = blake3()
    _feed(state, array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)
    return state.digest(DIGEST_BYTES).hex()


def _feed(state: Any, array: pa.Array) -> None:
    kind = array.type
    state.update(f"{kind}:{len(array)}:{array.null_count};".encode())
    if array.null_count:
        state.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        if not pa.types.is_struct(kind):
            array = array.drop_null()
    if pa.types.is_null(kind):
        return
    if pa.types.is_dictionary(kind):
        _feed(state, array.dictionary_decode())
    elif pa.types.is_struct(kind):
        for child in array.flatten():  # flatten pushes the parent's nulls down
            _feed(state, child)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        state.update(_int32(pc.list_value_length(array)))
        _feed(state, array.flatten())
    elif pa.types.is_map(kind):
        _feed(state, array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))))
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        if len(array):
            state.update(_int32(pc.binary_length(array)))
            offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
            data = array.buffers()[2]
            if data is not None:
                state.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        for value in array:
            state.update(value.as_buffer())
    elif pa.types.is_boolean(kind):
        state.update(np.packbits(array.to_numpy(zero_copy_only=False)).tobytes())
    elif pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
        if len(array):
            state.update(memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width])
    else:
        state.update(np.ascontiguousarray(array.to_numpy(zero_copy_only=False)).tobytes())


def _int32(lengths: pa.Array) -> bytes:
    return np.ascontiguousarray(lengths.to_numpy(zero_copy_only=False).astype("<i4")).tobytes()
