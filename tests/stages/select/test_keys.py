import csv
import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import LINEAGE
from schemas.errors import DataError
from stages.select.keys import Keys

KEYS = ["s/a", "s/b c\u2028d", 's/ä,"1"']


def write(path, keys):
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"n": range(len(keys)), "key": keys}), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("n", "key"), *enumerate(keys)])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"key": key}) + "\n" for key in keys))
    else:
        path.write_text("".join(f"{key}\n" for key in keys) + "\n")


def drops(stage, keys, lineage=None):
    columns = {"key": pa.array(keys, pa.string())}
    if lineage is not None:
        columns["lineage"] = pa.array(lineage, LINEAGE)
    stage.bind({name: array.type for name, array in columns.items() if name != "key"})
    stage = pickle.loads(pickle.dumps(stage))
    assert set(stage.reads().fields) == columns.keys() - {"key"}
    return stage.table(pa.table(columns))["_drop"].to_pylist()


@pytest.mark.parametrize("name", ["keys.txt", "keys.csv", "keys.jsonl", "keys.parquet"])
def test_lists_in_all_forms(tmp_path, name):
    write(tmp_path / name, KEYS)
    asked = ["s/x", *KEYS, "s"]
    assert list(Keys(file=str(tmp_path / name)).check()) == []
    assert drops(Keys(file=str(tmp_path / name)), asked) == [None, *["taken_down"] * 3, None]
    assert drops(Keys(file=str(tmp_path / name), keep=True), asked) == ["not_listed", None, None, None, "not_listed"]


def test_descendants_go_with_their_ancestors(tmp_path):
    write(tmp_path / "keys", ["s/a"])
    lineage = [
        [{"step": "cut", "key": "s/x"}, {"step": "cut", "key": "s/a"}],
        [{"step": "cut", "key": "s/b"}],
        [],
        None,
    ]
    found = drops(Keys(file=str(tmp_path / "keys")), ["s/a-1-2", "s/b-1", "s/c", "s/a"], lineage)
    assert found == ["taken_down", None, None, "taken_down"]


@given(st.sets(st.integers(0, 20)), st.lists(st.integers(0, 20)))
def test_kept_and_taken_down_are_opposites(tmp_path_factory, listed, asked):
    path = tmp_path_factory.mktemp("keys") / "keys"
    write(path, [f"k{i}" for i in listed])
    keys = [f"k{i}" for i in asked]
    taken, kept = (drops(Keys(file=str(path), keep=keep), keys) for keep in (False, True))
    assert [drop is not None for drop in taken] == [i in listed for i in asked]
    assert all((first is None) != (second is None) for first, second in zip(taken, kept, strict=True))


def test_the_content_counts_and_not_the_place(tmp_path):
    for name, keys in (("a", ["x"]), ("b", ["x"]), ("c", ["y"])):
        write(tmp_path / name, keys)
    first, same, other = (Keys(file=str(tmp_path / name)).identity() for name in "abc")
    assert first == same != other


def test_a_list_that_changes_during_a_run_is_an_error(tmp_path):
    write(tmp_path / "keys", ["x"])
    stage = Keys(file=str(tmp_path / "keys"))
    stage.identity()
    write(tmp_path / "keys", ["x", "y"])
    with pytest.raises(DataError, match="changed while the run went on"):
        drops(stage, ["x"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.csv", b"id\nx\n", "no column `key`"),
        ("k.jsonl", b'{"key": "x"}\n[1]\n', "line 2: not_an_object"),
        ("k.jsonl", b'{"id": "x"}\n', "no column `key`"),
        ("k.parquet", b"nothing", "no keys that can be read"),
        ("k.txt", b"\xff", "no keys that can be read"),
    ],
)
def test_what_is_no_list(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    [problem] = Keys(file=str(tmp_path / name)).check()
    assert message in problem


def test_a_missing_list(tmp_path):
    [problem] = Keys(file=str(tmp_path / "none")).check()
    assert "there is no" in problem
