"""The parts of many rows at once: their names in a tar, where their bytes are, where they went."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.columns import PART
from schemas.sample import member_extension


class PartColumns:
    """The parts of some rows, flat: `rows` is the row of each part, the rest are its fields by name."""

    def __init__(self, parts: pa.ListArray) -> None:
        lengths = pc.fill_null(pc.list_value_length(parts), 0).to_numpy(zero_copy_only=False)
        self.starts: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.rows: npt.NDArray[np.int64] = np.repeat(np.arange(len(parts), dtype=np.int64), lengths)
        self._fields = dict(zip((field.name for field in PART), parts.flatten().flatten(), strict=True))

    def __len__(self) -> int:
        return len(self.rows)

    def field(self, name: str) -> pa.Array:
        """A field of all parts."""
        return self._fields[name]

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each part."""
        return np.asarray(self._fields["size"].to_numpy())

    @cached_property
    def extensions(self) -> pa.Array:
        """The extension of each part in a tar."""
        both = pc.binary_join_element_wise(self._fields["name"], self._fields["format"], "\0")
        pairs = both.dictionary_encode()
        distinct = [member_extension(*pair.split("\0")) for pair in pairs.dictionary.to_pylist()]
        return pa.array(distinct, pa.string()).take(pairs.indices)

    def member_names(self, keys: pa.Array) -> list[str]:
        """The name of each part in a tar. keys: of all rows."""
        names = pc.binary_join_element_wise(keys.take(pa.array(self.rows)), self.extensions, ".")
        found: list[str] = names.to_pylist()
        return found

    def views(self) -> dict[int, dict[str, str]]:
        """Row -> part -> the span that is meant, for parts that have one."""
        found: dict[int, dict[str, str]] = {}
        for at in np.flatnonzero(self._fields["view"].is_valid().to_numpy(zero_copy_only=False)).tolist():
            part = found.setdefault(int(self.rows[at]), {})
            part[self._fields["name"][at].as_py()] = self._fields["view"][at].as_py()
        return found

    def moved(self, uri: str, offsets: npt.NDArray[np.int64], digests: list[bytes]) -> pa.ListArray:
        """The `parts` column of the same rows with the bytes elsewhere."""
        fields: dict[str, Any] = {
            **self._fields,
            "uri": pa.array([uri], pa.string()).take(pa.array(np.zeros(len(self), np.int32))),
            "offset": pa.array(offsets),
            "tag": pa.nulls(len(self), pa.string()),
            "digest": pa.array(digests, pa.binary(16)),
        }
        flat = pa.StructArray.from_arrays([fields[field.name] for field in PART], fields=list(PART))
        return pa.ListArray.from_arrays(pa.array(self.starts, pa.int32()), flat)
