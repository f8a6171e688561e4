import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.select.split import SplitRows

SHARES = {"train": 0.8, "validation": 0.15, "test": 0.05}


def split(groups, shares=None, seed=3):
    stage = SplitRows(by="speaker", shares=shares or SHARES, seed=seed)
    keys = [f"s/{i}" for i in range(len(groups))]
    return stage.table(pa.table({"key": pa.array(keys, pa.string()), "speaker": groups}))


def test_shares_are_met_and_depend_on_the_seed():
    found = split([f"speaker {i}" for i in range(20_000)])["split"].to_pylist()
    for name, share in SHARES.items():
        assert found.count(name) / 20_000 == pytest.approx(share, abs=0.01)
    assert split([f"speaker {i}" for i in range(20_000)], seed=4)["split"].to_pylist() != found


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=60), st.permutations(range(10)))
def test_groups_never_straddle_whatever_stands_beside_them(groups, names):
    values = pa.array([None if g is None else names[g] for g in groups], pa.int64())
    result = split(values)
    of_group = {}
    for value, name, drop in zip(values.to_pylist(), *(result[c].to_pylist() for c in ("split", "_drop")), strict=True):
        assert (name is None) == (value is None) == (drop == "no_group")
        assert of_group.setdefault(value, name) == name
        if value is not None:
            assert split([str(value)])["split"].to_pylist() == [name]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(any), st.text(max_size=5))
def test_a_share_of_nothing_gets_nothing(weights, group):
    shares = {f"s{i}": weight / sum(weights) for i, weight in enumerate(weights)}
    [name] = split([group], shares)["split"].to_pylist()
    assert shares[name] > 0


def test_the_key_is_a_group_of_one():
    stage = SplitRows(shares=SHARES)
    assert not stage.reads().fields
    assert stage.table(pa.table({"key": ["a", "b"]}))["_drop"].null_count == 2


@pytest.mark.parametrize(
    "shares", [{}, {"a": 0.5}, {"a": 0.5, "b": 0.6}, {"a": 1.5, "b": -0.5}, {"a": True}, {"": 1.0}]
)
def test_what_are_no_shares(shares):
    with pytest.raises(ValueError, match="shares"):
        SplitRows(shares=shares)


def test_lists_are_no_groups():
    with pytest.raises(ValueError, match="grouped by plain values"):
        SplitRows(by="tags", shares={"a": 1.0}).bind({"tags": pa.list_(pa.string())})
