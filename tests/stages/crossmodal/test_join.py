import pyarrow as pa
import pytest

from schemas.columns import LINEAGE, PARTS
from stages.crossmodal.join import Join


def part(name, uri):
    return {"name": name, "format": "x", "uri": uri, "offset": 0, "size": 1}


def table(**columns):
    parts = pa.array(columns.pop("parts", [None] * len(columns["key"])), PARTS)
    return pa.table({**columns, "parts": parts})


LEFT = table(
    key=["l/2", "l/1", "l/3", "l/4"],
    photo=["b", "a", "zz", None],
    source=["l"] * 4,
    parts=[[part("image", "left")], None, None, None],
)
RIGHT = table(
    key=["r/2", "r/1", "r/3", "r/0"],
    id=["a", "a", "b", None],
    caption=["late", "first", "c", "null"],
    meta=[{"n": 2}, {"n": 1}, {"n": 3}, None],
    source=["r"] * 4,
    extra=["{}"] * 4,
    parts=[None, [part("audio", "right")], [part("image", "right"), part("audio", "right")], None],
)
INPUTS = {"left": LEFT, "right": RIGHT}
TYPES = {
    name: {field.name: field.type for field in t.schema if field.name not in ("key", "parts")}
    for name, t in INPUTS.items()
}


def test_inner_join():
    stage = Join(left="l", right="r", by="photo", right_by="id")
    assert stage.types(TYPES) == {
        **TYPES["left"],
        "caption": pa.string(),
        "meta": TYPES["right"]["meta"],
        "lineage": LINEAGE,
    }
    result = stage.rows(INPUTS)
    assert result.column_names == ["key", "photo", "source", "lineage", "caption", "meta", "parts", "_drop"]
    assert result["key"].to_pylist() == ["l/1", "l/2", "l/3", "l/4"]
    assert result["caption"].to_pylist() == ["first", "c", None, None]  # r/1 comes before r/2
    assert result["source"].to_pylist() == ["l"] * 4
    ancestors = [[entry["key"] for entry in row or ()] for row in result["lineage"].to_pylist()]
    assert ancestors == [["r/1"], ["r/3"], [], []]
    assert result["_drop"].to_pylist() == [None, None, "unmatched", "unmatched"]  # null equals nothing, not even null
    names = [[(p["name"], p["uri"]) for p in parts or ()] for parts in result["parts"].to_pylist()]
    assert names == [[("audio", "right")], [("image", "left"), ("audio", "right")], [], []]


def test_left_join_with_chosen_columns():
    stage = Join(left="l", right="r", by="photo", right_by="id", how="left", columns={"alt": "caption", "n": "meta.n"})
    assert stage.types(TYPES) == {**TYPES["left"], "alt": pa.string(), "n": pa.int64(), "lineage": LINEAGE}
    result = stage.rows(INPUTS)
    assert "_drop" not in result.column_names
    assert result["alt"].to_pylist() == ["first", "c", None, None]
    assert result["n"].to_pylist() == [1, 3, None, None]


def test_branches_of_a_flow_join_by_key():
    right = LEFT.slice(1, 2).select(["key", "parts"]).append_column("n", pa.array([1, 3]))
    result = Join(left="l", right="branch", by="key", columns=["n"], how="left").rows({"left": LEFT, "right": right})
    assert result["key"].to_pylist() == ["l/1", "l/2", "l/3", "l/4"]
    assert result["n"].to_pylist() == [1, None, 3, None]


def test_empty_sides():
    stage = Join(left="l", right="r", by="photo", right_by="id")
    assert len(stage.rows({"left": LEFT.slice(0, 0), "right": RIGHT})) == 0
    assert set(stage.rows({"left": LEFT, "right": RIGHT.slice(0, 0)})["_drop"].to_pylist()) == {"unmatched"}


@pytest.mark.parametrize(
    ("options", "types", "message"),
    [
        ({}, {"caption": pa.string()}, "both flows have the column 'caption'.*select.rename"),
        ({"columns": ["captions"]}, {}, "no column 'captions'; did you mean 'caption'"),
        ({"columns": {"duration": "caption"}}, {}, "the type double everywhere"),
        ({}, {"photo": pa.int64()}, "photo is int64 in the left flow and string in the right one"),
    ],
)
def test_what_does_not_go_together(options, types, message):
    with pytest.raises(ValueError, match=message):
        Join(left="l", right="r", by="photo", right_by="id", **options).types(
            {**TYPES, "left": {**TYPES["left"], **types}}
        )
