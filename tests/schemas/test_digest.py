from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.digest import array_digest, draw, draws, fingerprint

STRUCT = pa.struct([("a", pa.string()), ("b", pa.list_(pa.float64()))])
VALUES = {
    pa.string(): st.none() | st.text(max_size=8),
    pa.large_string(): st.none() | st.text(max_size=8),
    pa.binary(): st.none() | st.binary(max_size=8),
    pa.binary(2): st.none() | st.binary(min_size=2, max_size=2),
    pa.int32(): st.none() | st.integers(-100, 100),
    pa.float64(): st.none() | st.floats(allow_nan=False),
    pa.bool_(): st.none() | st.booleans(),
    pa.list_(pa.string()): st.none() | st.lists(st.none() | st.text(max_size=4), max_size=3),
    STRUCT: st.none() | st.fixed_dictionaries({"a": st.none() | st.text(max_size=3), "b": st.none() | st.just([1.5])}),
}


@pytest.mark.parametrize("kind", VALUES, ids=str)
@given(data=st.data())
def test_a_digest_is_of_the_content_and_not_of_the_buffers(kind, data):
    values = data.draw(st.lists(VALUES[kind], max_size=12))
    array = pa.array(values, kind)
    padded = pa.concat_arrays([pa.array([None], kind), array, pa.array([None], kind)])
    assert array_digest(padded.slice(1, len(values))) == array_digest(array)
    cut = data.draw(st.integers(0, len(values)))
    chunked = pa.chunked_array([array.slice(0, cut), array.slice(cut)], kind)
    assert array_digest(chunked) == array_digest(array)
    other = data.draw(st.lists(VALUES[kind], max_size=12))
    if pa.array(other, kind) != array:
        assert array_digest(pa.array(other, kind)) != array_digest(array)


def test_nulls_and_types_count():
    assert array_digest(pa.array([0, None], pa.int32())) != array_digest(pa.array([None, 0], pa.int32()))
    assert array_digest(pa.array([1], pa.int32())) != array_digest(pa.array([1], pa.int64()))
    assert array_digest(pa.array(["ab", "c"])) != array_digest(pa.array(["a", "bc"]))
    assert array_digest(pa.array([None], STRUCT)) != array_digest(pa.array([{"a": None, "b": None}], STRUCT))


def test_draws_do_not_depend_on_the_process():
    code = "from schemas.digest import draw; print(draw(7, 'select.sample', 'a/b'))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == draw(7, "select.sample", "a/b")


def test_draws_agree_with_draw_and_are_even():
    keys = [f"k/{i}" for i in range(4000)]
    found = draws(3, "s", keys)
    assert found.tolist() == [draw(3, "s", key) for key in keys]
    counts = np.bincount((found % 44), minlength=44)
    chi_square = ((counts - 4000 / 44) ** 2 / (4000 / 44)).sum()
    assert chi_square < 80.5  # 43 degrees of freedom, p = 0.0005
    assert fingerprint({"b": 1, "a": "é"}) == fingerprint({"a": "é", "b": 1})
