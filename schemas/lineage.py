"""Lineage: which rows a row comes from, where its key is not theirs (see `schemas.columns.LINEAGE`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.columns import LINEAGE


def append_ancestor(lineage: pa.ListArray | None, entry: Mapping[str, pa.Array]) -> pa.ListArray:
    """Lineage of rows with one more ancestor each: arrays `step`, `key` and `dataset`."""
    kind = LINEAGE.value_type
    added = pa.StructArray.from_arrays([entry[field.name] for field in kind], fields=list(kind))
    count = len(added)
    if lineage is None or lineage.null_count == count:
        return pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), added)
    lengths = pc.fill_null(pc.list_value_length(lineage), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths + 1)
    flat = pa.concat_arrays([lineage.flatten(), added])
    order = np.empty(len(flat), np.int64)
    order[ends - 1] = len(flat) - count + np.arange(count)
    order[np.delete(np.arange(len(flat)), ends - 1)] = np.arange(len(flat) - count)
    return pa.ListArray.from_arrays(np.concatenate([[0], ends]).astype(np.int32), flat.take(pa.array(order)))
