import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.select.rows import Limit, SampleRows, Shuffle


def table(keys):
    return pa.table({"key": pa.array(list(keys), pa.string())})


def kept(result):
    return {
        key for key, drop in zip(result["key"].to_pylist(), result["_drop"].to_pylist(), strict=True) if drop is None
    }


KEYS = table(f"s/{i}" for i in range(10_000))


def test_a_share_is_drawn_by_key_and_grows_without_changing():
    small, large = (kept(SampleRows(share=share, seed=3).table(KEYS)) for share in (0.1, 0.3))
    assert len(small) == pytest.approx(1000, abs=150)
    assert small < large
    part = KEYS.slice(100, 50)
    assert kept(SampleRows(share=0.3, seed=3).table(part)) == large & set(part["key"].to_pylist())
    assert kept(SampleRows(share=0.1, seed=4).table(KEYS)) != small
    assert len(kept(SampleRows(share=1, seed=3).table(KEYS))) == 10_000
    assert not kept(SampleRows(share=0, seed=3).table(KEYS))


@pytest.mark.parametrize("share", [True, False, "0.5", 1.5, -0.1, float("nan"), None])
def test_what_is_no_share(share):
    with pytest.raises(ValueError, match="share"):
        SampleRows(share=share)


def test_yes_is_no_number_of_rows():
    with pytest.raises(ValueError, match="rows"):
        Limit(rows=True)


def test_shuffle_is_by_key_and_not_the_draw_of_sample():
    order = Shuffle(seed=3).table(KEYS)["order"].to_pylist()
    assert sorted(order) != order
    assert min(order) >= 0
    assert Shuffle(seed=3).table(KEYS.slice(5, 3))["order"].to_pylist() == order[5:8]
    first = sorted(range(10_000), key=order.__getitem__)[:1000]
    drawn = kept(SampleRows(share=0.1, seed=3).table(KEYS))
    assert 20 < len(drawn & {f"s/{i}" for i in first}) < 250


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(0, 30))
def test_limit_keeps_the_first_rows_over_all_units(sizes, rows):
    keys = iter(f"s/{i:03d}" for i in range(100))
    units = [table(next(keys) for _ in range(size)) for size in sizes]
    stage = Limit(rows=rows)
    merged = stage.merge(stage.partial(unit) for unit in units)
    found = set().union(*(kept(stage.apply(merged, unit)) for unit in units))
    assert found == {f"s/{i:03d}" for i in range(min(rows, sum(sizes)))}
