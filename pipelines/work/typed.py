"""From Python values to Arrow columns, without losing a row to a value of the wrong type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

_WRONG = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError)


def typed_array(values: list[Any], kind: pa.DataType, wrong: Callable[[int, str], None]) -> pa.Array:
    """The values as an Arrow array; `wrong(row, detail)` is told of each that does not fit, and it becomes null."""
    try:
        if not _cuts_fractions(values, kind):
            return pa.array(values, kind)
    except _WRONG:
        pass
    mended = list(values)
    for row, value in enumerate(values):
        try:
            if type(value) is int and pa.types.is_floating(kind):
                mended[row] = float(value)  # Arrow refuses what would be rounded; readers of JSON round
                continue
            if not _cuts_fractions([value], kind):
                pa.scalar(value, kind)
                continue
        except _WRONG:
            pass
        mended[row] = None
        wrong(row, f"{type(value).__name__} where {kind} is expected")
    return pa.array(mended, kind)


def _cuts_fractions(values: list[Any], kind: pa.DataType) -> bool:
    """Arrow would turn 2.5 into 2 in a column of whole numbers, without a word."""
    return pa.types.is_integer(kind) and any(type(v) is float and not v.is_integer() for v in values)
