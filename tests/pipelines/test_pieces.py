"""The pure pieces of the engine: cutting units, batches and shards, and views over commits."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.frame import Frame, part_rows
from pipelines.ledger import Commit, Ledger, View, table_digests
from pipelines.nodes import group_origins
from pipelines.work.pack import cut_shards
from pipelines.work.records import plain, records
from pipelines.work.rows import batches
from pipelines.work.typed import typed_array
from schemas.digest import digest
from schemas.sample import Part
from schemas.store import Store
from stages.base import Origin

names = st.lists(st.text("abcdefghij0123456789", min_size=1, max_size=6), unique=True, max_size=300).map(sorted)


def origins(found: list[str]) -> list[Origin]:
    return [Origin(name, name, "t", many=False) for name in found]


@given(names, st.integers(1, 40))
def test_groups_hold_every_origin_once_in_order(found, unit):
    groups = group_origins(iter(origins(found)), unit)
    assert [origin.name for group in groups for origin in group] == found
    assert all(1 <= len(group) <= unit for group in groups)


def test_a_new_file_changes_few_groups():
    before = [f"{i:05d}" for i in range(0, 20_000, 2)]
    groups = {tuple(group) for group in group_origins(iter(origins(before)), 64)}
    after = {tuple(g) for g in group_origins(iter(origins(sorted([*before, "01001"]))), 64)}
    assert len(after - groups) <= 12
    assert len(after & groups) >= len(groups) - 12


def test_large_files_stand_alone():
    found = [Origin("a", "a", "t"), Origin("b", "b", "t", many=False), Origin("c", "c", "t", many=False)]
    assert [[o.name for o in group] for group in group_origins(iter(found), 10)] == [["a"], ["b", "c"]]


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 40), st.sets(st.integers(0, 60), max_size=3))
def test_batches_hold_every_row_once_within_the_budget(costs, budget, alone):
    rows = [(cost, row) for row, cost in enumerate(costs)]
    found = list(batches(rows, budget, frozenset(alone)))
    assert sorted(row for batch in found for row in batch) == list(range(len(costs)))
    for batch in found:
        assert len(batch) == 1 or sum(costs[row] for row in batch) <= budget
        assert len(batch) == 1 or not set(batch) & alone


@given(st.lists(st.integers(1, 5000), max_size=80), st.integers(1, 6000), st.integers(1, 20))
def test_shards_hold_every_row_once_within_both_bounds(sizes, most_bytes, most_samples):
    cuts = list(cut_shards(np.array(sizes, dtype=np.int64), most_bytes, most_samples))
    assert [row for start, end in cuts for row in range(start, end)] == list(range(len(sizes)))
    for start, end in cuts:
        assert end - start <= most_samples
        assert end - start == 1 or sum(sizes[start:end]) <= most_bytes


def test_values_of_the_wrong_type_become_null_and_are_named():
    wrong = {}
    array = typed_array([1, 2.0, 2.5, "x", None, True, 2**70], pa.int64(), wrong.__setitem__)
    assert array.to_pylist() == [1, 2, None, None, None, None, None]
    assert wrong == {
        2: "float where int64 is expected",
        3: "str where int64 is expected",
        5: "bool where int64 is expected",
        6: "int where int64 is expected",
    }
    wrong.clear()
    assert typed_array(["a", "\ud800"], pa.string(), wrong.__setitem__).to_pylist() == ["a", None]
    assert list(wrong) == [1]


def commit(ledger: Ledger, name: str, table: pa.Table, **facts) -> Commit:
    fp = digest(name.encode()).hex()
    facts.setdefault("live_rows", len(table))
    return ledger.publish(Commit(fp, len(table), digests=table_digests(table), **facts), table)


def parts(*rows: dict[str, str] | None) -> pa.Array:
    made = [None if r is None else {n: Part(n, "bin", uri, 0, 1) for n, uri in r.items()} for r in rows]
    return part_rows(made)


def test_a_view_stacks_layers_and_inherits_from_its_parent(tmp_path):
    ledger = Ledger(Store(str(tmp_path)))
    text = pa.array(["one", "two", "three"])
    base_table = pa.table({"key": ["a", "b", "c"], "text": text, "parts": parts({"x": "u1"}, None, {"x": "u3"})})
    base = commit(ledger, "base", base_table)
    heard = pa.StructArray.from_arrays([pa.array(["h1", "h2", "h3"]), pa.array([1.0, 2.0, 3.0])], ["text", "prob"])
    first = commit(ledger, "first", pa.table({"heard": heard, "parts": parts({"y": "v"}, {"x": "w"}, None)}))
    second = commit(ledger, "second", pa.table({"text": pa.array(["ONE", "TWO", "THREE"])}))
    parent = View(base).over(first).over(second)
    child = commit(ledger, "child", pa.table({"key": ["c-0", "c-1", "a-0"], "_row": pa.array([2, 2, 0], pa.int32())}))
    view = View(child, parent=parent)
    reading, _ = view.read(["text", "heard.prob"], None)
    frame = Frame(ledger, reading)
    assert frame.array("text").to_pylist() == ["THREE", "THREE", "ONE"]
    assert frame.array("heard.prob").to_pylist() == [3.0, 3.0, 1.0]
    assert [{n: p.uri for n, p in row.items()} for row in frame.parts()] == [
        {"x": "u3"},
        {"x": "u3"},
        {"x": "u1", "y": "v"},
    ]
    assert frame.array("nowhere", pa.string()).to_pylist() == [None] * 3


def test_what_a_stage_does_not_read_does_not_change_its_basis(tmp_path):
    ledger = Ledger(Store(str(tmp_path)))
    base = commit(ledger, "base", pa.table({"key": ["a"], "text": ["t"]}))
    label = commit(ledger, "label", pa.table({"language": ["en"]}))
    assert View(base).read(["text"], ())[1] == View(base).over(label).read(["text"], ())[1]
    other = commit(ledger, "other", pa.table({"text": ["u"]}))
    assert View(base).read(["text"], ())[1] != View(base).over(other).read(["text"], ())[1]


def test_what_is_read_is_the_same_for_a_new_and_a_found_commit(tmp_path):
    ledger = Ledger(Store(str(tmp_path)))
    struct = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["z", "a"])
    made = commit(ledger, "base", pa.table({"key": ["a"], "s": struct}))
    found = ledger.find(made.fp)
    assert found == made
    assert View(made).read(["s"], None)[1] == View(found).read(["s"], None)[1]


def test_the_first_commit_is_the_truth(tmp_path):
    ledger = Ledger(Store(str(tmp_path)))
    first = commit(ledger, "x", pa.table({"key": ["a"]}))
    second = commit(ledger, "x", pa.table({"key": ["b"]}))
    assert second == first
    assert ledger.read(first.fp).column("key").to_pylist() == ["a"]


def test_records_hold_what_json_can_hold():
    table = pa.table(
        {
            "key": ["k"],
            "messages": ['[{"role":"user"}]'],
            "s": pa.array([{"a": 1, "b": None, "c": float("nan")}]),
            "text": ["汉"],
            "order": [3],
        }
    )
    [record] = records(table, None, {0: {"audio": "t=1,2"}}).to_pylist()
    assert record.decode() == (
        '{"key":"k","messages":[{"role":"user"}],"s":{"a":1},"text":"汉","views":{"audio":"t=1,2"}}'
    )
    [record] = records(table, ["s.a", "text"], {}).to_pylist()
    assert record.decode() == '{"key":"k","s":{"a":1},"text":"汉"}'
    assert plain({"x": [float("inf"), {"y": None}], "z": b"raw"}) == {"x": [None, None]}


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_ROW = st.fixed_dictionaries(
    {
        "text": st.none() | _TEXT,
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(allow_nan=True),
        "b": st.none() | st.booleans(),
        "many": st.none() | st.lists(_TEXT, max_size=3),
        "s": st.none() | st.fixed_dictionaries({"a": st.none() | _TEXT, "x": st.none() | st.floats(allow_nan=False)}),
        "messages": st.none() | st.lists(_TEXT, max_size=2).map(json.dumps),
    }
)
_TYPES = pa.schema(
    {
        "key": pa.string(),
        "text": pa.string(),
        "n": pa.int64(),
        "f": pa.float64(),
        "b": pa.bool_(),
        "many": pa.list_(pa.string()),
        "s": pa.struct({"a": pa.string(), "x": pa.float64()}),
        "messages": pa.string(),
    }
)


@given(st.lists(_ROW, min_size=1, max_size=5))
def test_records_are_what_json_would_write(rows):
    table = pa.Table.from_pylist([{"key": f"k/{i}", **row} for i, row in enumerate(rows)], _TYPES)
    for i, record in enumerate(records(table, None, {}).to_pylist()):
        value = plain(table.slice(i, 1).to_pylist()[0])
        if value.get("messages"):
            value["messages"] = json.loads(value["messages"])
        loose = json.loads(record)
        assert loose == value
        if "messages" not in value:  # JSON text is taken over as it stands
            assert record.decode() == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
