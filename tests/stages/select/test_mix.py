import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import StageError
from stages.select.mix import Mix


def rows(name, count, tasks=3):
    return pa.table(
        {
            "key": [f"{name}/{i}" for i in range(count)],
            "task": [f"t{i % tasks}" for i in range(count)],
            "tokens": [10 + i % 7 for i in range(count)],
        }
    )


def choose(mix, sizes, cut=50, tables=None):
    """The copies of each source's rows, and the shares."""
    tables = tables or {name: rows(name, size) for name, size in sizes.items()}
    cuts = {name: [t.slice(at, cut) for at in range(0, len(t), cut)] for name, t in tables.items()}
    chosen, shares = mix.merge({name: [mix.partial(name, t) for t in parts] for name, parts in cuts.items()})
    return {name: found.copies for name, found in chosen.items()}, {share.source: share for share in shares}


def test_weights_give_exact_totals():
    copies, shares = choose(Mix(sources={"a": {"weight": 0.7}, "b": {"weight": 0.3}}, total=101), {"a": 200, "b": 150})
    assert {name: int(found.sum()) for name, found in copies.items()} == {"a": 71, "b": 30}
    assert shares["a"] == ("a", 200, 71, 71, 0)
    assert all(found.max() == 1 for found in copies.values())


@pytest.mark.parametrize(("temperature", "expected"), [(1, [80, 20]), (2, [67, 33])])
def test_without_weights_size_decides(temperature, expected):
    copies, _ = choose(Mix(sources={"a": None, "b": None}, total=100, temperature=temperature), {"a": 400, "b": 100})
    assert [int(found.sum()) for found in copies.values()] == expected


def test_a_source_that_is_too_small_is_reported_and_never_repeated_beyond_its_epochs():
    mix = Mix(sources={"a": {"weight": 1}, "b": {"weight": 1, "epochs": 2}}, total=100)
    copies, shares = choose(mix, {"a": 200, "b": 10})
    assert copies["b"].tolist() == [2] * 10
    assert int(copies["a"].sum()) == 80
    assert shares["b"] == ("b", 10, 50, 20, 30)


def test_epochs_repeat_whole_passes_and_then_some():
    copies, _ = choose(Mix(sources={"a": {"epochs": 3}}, total=25), {"a": 10})
    assert sorted(copies["a"].tolist()) == [2] * 5 + [3] * 5


def test_caps_and_floors():
    sources = {"a": {"weight": 8, "cap": 30}, "b": {"weight": 1, "floor": 20}, "c": {"weight": 1}}
    copies, shares = choose(Mix(sources=sources, total=60), {"a": 100, "b": 100, "c": 100})
    assert [int(found.sum()) for found in copies.values()] == [30, 20, 10]
    assert shares["a"].short == 0  # a cap is meant


def test_without_a_total_as_much_as_the_weights_allow():
    copies, _ = choose(Mix(sources={"a": {"weight": 3}, "b": {"weight": 1}}), {"a": 90, "b": 60})
    assert [int(found.sum()) for found in copies.values()] == [90, 30]
    copies, _ = choose(Mix(sources={"a": None, "b": None}), {"a": 90, "b": 60})
    assert [int(found.sum()) for found in copies.values()] == [90, 60]


def test_more_than_there_is():
    with pytest.raises(StageError, match="wants 100 samples, but its sources can give 30 at most") as error:
        choose(Mix(sources={"a": {"epochs": 2}, "b": None}, total=100), {"a": 10, "b": 10})
    assert "a 20, b 10" in error.value.hint


def test_strata():
    table = pa.table({"key": [f"a/{i}" for i in range(111)], "task": ["x"] * 100 + ["y"] * 10 + [None]})
    mix = Mix(sources={"a": None}, total=30, strata={"by": "task", "temperature": 2, "cap": 20})
    copies, _ = choose(mix, {}, tables={"a": table})
    found = copies["a"]
    assert found[:100].sum() == 20
    assert found[100:110].sum() + found[110] == 10
    assert found[110] == 1


def test_by_tokens_a_total_is_met_to_less_than_one_sample():
    mix = Mix(sources={"a": {"weight": 2}, "b": {"weight": 1}}, total=1000, by="tokens", strata={"by": "task"})
    tables = {name: rows(name, 300) for name in "ab"}
    copies, shares = choose(mix, {}, tables=tables)
    tokens = {name: int((copies[name] * tables[name]["tokens"].to_numpy()).sum()) for name in "ab"}
    assert 1000 - 16 < sum(tokens.values()) <= 1000
    assert tokens["a"] == pytest.approx(667, abs=17)
    assert shares["a"].taken == tokens["a"]


def test_rows_without_a_number_are_no_part_of_it():
    table = pa.table({"key": ["a/1", "a/2", "a/3"], "tokens": pa.array([5, None, 0])})
    mix = Mix(sources={"a": None}, by="tokens")
    chosen, _ = mix.merge({"a": [mix.partial("a", table)]})
    assert chosen["a"].copies.tolist() == [1, 0, 0]
    assert chosen["a"].unmeasured.tolist() == [False, True, True]


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 40), st.integers(0, 5))
@settings(deadline=None)
def test_a_larger_share_keeps_all_of_a_smaller_one_however_rows_are_cut(total, more, cut, seed):
    def taken(total, cut):
        return choose(Mix(sources={"a": None}, total=total, seed=seed), {"a": 120}, cut=cut)[0]["a"]

    small, large = taken(total, cut), taken(total + more, 120)
    assert int(small.sum()) == total
    assert (small <= large).all()


def test_another_seed_is_another_choice():
    first, second = (choose(Mix(sources={"a": None}, total=50, seed=seed), {"a": 100})[0]["a"] for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_keys_begin_with_the_flow():
    mix = Mix(sources={"a": None})
    assert mix.keys("a", pa.array(["a/1", "b/1", "ab/1"])).to_pylist() == ["a/1", "a/b/1", "a/ab/1"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sources": {"a": {"weight": 1}, "b": None}}, "give all sources a weight or none: b has none"),
        ({"sources": {"a": {"floor": 3, "cap": 2}}}, "the floor of a is above its cap"),
        ({"sources": {"a": {"floor": 30}}, "total": 20}, "more than the total"),
    ],
)
def test_what_makes_no_sense(options, problem):
    assert any(problem in found for found in Mix(**options).check())
