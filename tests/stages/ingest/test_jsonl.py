import gzip
import json
import pickle

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.work.typed import typed_array
from stages.base import New
from stages.ingest.jsonl import Jsonl, parse_object, regular_lines


def test_columns_are_inferred_and_nothing_is_lost(tmp_path, rows):
    lines = [
        {"id": "a", "text": "x", "n": 1, "mix": 1, "tags": ["t"], "meta": {"b": 1, "a": [2]}, "none": None, "a.b": 1},
        {"id": "b", "text": "y", "n": 2.5, "mix": "1", "tags": [], "meta": None, "late": {"z": float("nan")}},
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Jsonl(path=str(tmp_path))
    assert {name: str(kind) for name, kind in source.writes().fields.items()} == {
        "id": "string",
        "text": "string",
        "n": "double",
        "mix": "string",
        "tags": "list<item: string>",
        "meta": "string",
        "late": "string",
        "extra": "string",
    }
    first, second = (result.columns for result in rows(source).values())
    assert first["meta"] == '{"a":[2],"b":1}'
    assert (first["mix"], second["mix"]) == ("1", '"1"')
    assert first["extra"] == '{"a.b":1}'
    assert second["late"] == '{"z":null}'


def test_canonical_columns_keep_their_types(tmp_path, rows):
    line = {"messages": [{"role": "user"}], "source": 7, "duration": "long", "width": 3}
    (tmp_path / "t.jsonl").write_text(json.dumps(line))
    source = Jsonl(path=str(tmp_path / "t.jsonl"))
    types = {name: str(kind) for name, kind in source.writes().fields.items()}
    assert types == {"messages": "string", "source": "string", "width": "int32", "extra": "string"}
    [result] = rows(source).values()
    assert result.columns["messages"] == '[{"role":"user"}]'
    assert result.columns["extra"] == '{"duration":"long"}'


def test_an_odd_row_changes_no_column(tmp_path, rows):
    usual = {"title": "t", "n": 1, "tags": [], "meta": {"a": 1}, "text": "x", "width": 3, "duration": 2, "list": ["a"]}
    odd = {"title": 5, "n": "1", "tags": 1, "meta": "m", "text": 5, "width": 3.5, "duration": "2", "list": [1]}
    lines = [odd, usual, {**usual, "n": 2.5, "tags": ["t"]}, usual, {**usual, "list": []}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Jsonl(path=str(tmp_path / "t.jsonl"))
    assert {name: str(kind) for name, kind in source.writes().fields.items()} == {
        "title": "string",
        "n": "double",
        "tags": "list<item: string>",
        "meta": "string",
        "text": "string",
        "width": "int32",
        "duration": "double",
        "list": "list<item: string>",
        "extra": "string",
    }
    first, second, *_ = (result.columns for result in rows(source).values())
    assert second == {**usual, "meta": '{"a":1}'}
    assert first == {**odd, "meta": '"m"', "width": "3.5"}  # the engine rejects the row as wrong_type


def test_a_type_that_most_values_do_not_have_is_json(tmp_path, rows):
    lines = [{"mix": "a", "text": "a", "license": 1}, {"mix": 1, "text": 1, "license": 2}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = (result.columns for result in rows(Jsonl(path=str(tmp_path / "t.jsonl"))).values())
    assert first == {"mix": '"a"', "text": "a", "license": "1"}  # a canonical text stays what it is
    assert second == {"mix": "1", "text": 1, "license": "2"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "x"', "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'{"id": "\xff"}', "not_utf8"),
        (b'["id"]', "not_an_object"),
        (b'{"id": "\\uD800"}', "lone_surrogate"),
        (b'{"id": null}', "missing_id"),
        (b'{"other": 1}', "missing_id"),
    ],
)
def test_a_bad_line_is_rejected_alone(tmp_path, line, reason):
    (tmp_path / "t.jsonl").write_bytes(b'{"id": "a"}\r\n' + line + b'\n \n{"id": 5}')
    source = Jsonl(path=str(tmp_path / "t.jsonl"), id="id", columns={"id": "string"})
    [origin] = source.origins()
    first, bad, last = source.read(origin)
    assert (first.key, last.key) == ("a", "5")
    assert bad.reason == reason
    assert bad.key == "t/000000000013"
    assert bad.detail == ("line 2" if reason != "missing_id" else "")


def test_a_reject_says_where(tmp_path, rows):
    (tmp_path / "t.jsonl").write_bytes(b'{"a": 1}\n\n{\n{"a": 2}\n[]\n')
    found = rows(Jsonl(path=str(tmp_path / "t.jsonl"), range=15)).values()
    assert [(r.reason, r.detail) for r in found if not isinstance(r, New)] == [
        ("broken_json", "line 3"),
        ("not_an_object", "byte 21"),
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text('aé\n\u2028"\\', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from(["text", "a", "b", "extra", "key"]), json_values)), st.integers(1, 60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranges_cut_a_file_without_a_seam(tmp_path_factory, rows, lines, size):
    path = tmp_path_factory.mktemp("ranges") / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole = Jsonl(path=str(path))
    cut = Jsonl(path=str(path), range=size)
    expected = [typed(whole, result) for result in rows(whole).values()]
    found = [typed(whole, result) for result in rows(cut).values()]
    assert repr(found) == repr(expected)  # by repr, since NaN differs from itself
    assert len(found) == len(lines)


def typed(source, result):
    """What the engine makes of a row: lines read one by one come as they are, blocks of them with their types."""
    assert isinstance(result, New)
    wrong = {}
    columns = {}
    for name, kind in source.writes().fields.items():
        columns[name] = typed_array(
            [result.columns.get(name)], kind, lambda _, detail, n=name: wrong.update({n: detail})
        )
    return result.key, {name: array.to_pylist() for name, array in columns.items()}, wrong, result.parts


def test_gzip_and_its_end(tmp_path, rows):
    data = gzip.compress(b"".join(b'{"text": "%d"}\n' % i for i in range(5000)))
    (tmp_path / "whole.jsonl.gz").write_bytes(data)
    (tmp_path / "zcut.jsonl.gz").write_bytes(data[: len(data) // 2])
    found = rows(Jsonl(path=str(tmp_path), range=100))
    assert sum(key.startswith("whole/") for key in found) == 5000
    assert [result.reason for result in found.values() if not isinstance(result, New)] == ["broken_gzip"]


def test_media_beside_the_table(tmp_path, rows, media):
    (tmp_path / "img").mkdir()
    (tmp_path / "img/1.PNG").write_bytes(b"png")
    paths = ["img/1.PNG", "img/2.png", "../secret", "/etc/passwd", None, str(tmp_path / "img/1.PNG"), "http://x/1.png"]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"id": i, "path": p}) + "\n" for i, p in enumerate(paths)))
    source = Jsonl(path=str(tmp_path / "t.jsonl"), id="id", media={"image": "path"})
    found = rows(source)
    assert media(found["0"].parts["image"]) == b"png"
    assert found["0"].parts["image"].format == "png"
    assert found["5"].parts == found["0"].parts
    assert found["4"].parts == {}
    assert {result.detail for result in found.values() if not isinstance(result, New)} == {"path"}  # the field
    reasons = {key: result.reason for key, result in found.items() if not isinstance(result, New)}
    assert reasons == {"1": "missing_media", "2": "outside_root", "3": "outside_root", "6": "outside_root"}


def test_workers_get_the_columns_with_the_stage(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n')
    source = Jsonl(path=str(path))
    before = source.writes()
    path.write_text('{"b": "x"}\n')
    assert pickle.loads(pickle.dumps(source)).writes() == before


def test_the_field_of_the_key_stays_a_column(tmp_path, rows):
    (tmp_path / "t.jsonl").write_text('{"id": "a", "text": "x"}\n')
    for columns, expected in [
        (None, {"id": "a", "text": "x"}),
        ({"id": "string", "text": "string"}, {"id": "a", "text": "x"}),
        ({"text": "string"}, {"text": "x", "extra": '{"id":"a"}'}),
    ]:
        assert rows(Jsonl(path=str(tmp_path), id="id", columns=columns))["a"].columns == expected


def test_fractions_are_never_cut_to_whole_numbers(tmp_path, rows):
    (tmp_path / "t.jsonl").write_text('{"n": 2.0, "l": [1.0]}\n{"n": 2.5, "l": [1.5]}\n{"n": NaN}\n')
    found = rows(Jsonl(path=str(tmp_path / "t.jsonl"), columns={"n": "int", "l": "ints"}))
    values = [(result.columns["n"], result.columns.get("l")) for result in found.values()]
    assert values == [(2, [1]), ("2.5", ["1.5"]), ("nan", None)]  # the engine rejects text as wrong_type


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"n": "integer"}, "did you mean 'int'"),
        ({"key": "string"}, "cannot be called 'key'"),
        ({"duration": "string"}, "the type double everywhere"),
    ],
)
def test_impossible_columns(columns, message):
    with pytest.raises(ValueError, match=message):
        Jsonl(path="t.jsonl", columns=columns)


def test_remote_tables(rows):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe({"/tables/a.jsonl": b'{"text": "x"}\n{"text": "y"}\n', "/tables/b.csv": b""})
    found = rows(Jsonl(path="memory://tables/*.jsonl", range=10))
    assert [result.columns["text"] for result in found.values()] == ["x", "y"]


values = st.one_of(
    st.none(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.booleans(),
    st.just([1]),
)
lines = st.one_of(
    st.dictionaries(st.sampled_from(["a", "t", "f", "z"]), values, max_size=4).map(lambda row: json.dumps(row)),
    st.dictionaries(st.sampled_from(["a", "t", "f"]), values, max_size=3).map(lambda row: json.dumps(row) * 2),
    st.sampled_from(
        ["", " ", "null", "[1]", '{"t":"\\ud800"}', '{"a":1} {"a":2}', '{"a":', '{"a":1,"a":2}', '{"t":"é"}']
    ),
)


@settings(max_examples=300)
@given(st.lists(lines, max_size=8), st.booleans())
def test_blocks_and_single_lines_give_the_same_rows(found, last):
    block = "\n".join(found).encode() + (b"\n" if last else b"")
    schema = pa.schema([("a", pa.int64()), ("t", pa.string()), ("f", pa.float64()), ("extra", pa.string())])
    table = regular_lines(block, schema)
    if table is None:
        return
    rows = [parse_object(line) for line in block.split(b"\n") if line and not line.isspace()]
    assert all(isinstance(row, dict) for row in rows)
    assert table.to_pylist() == [{name: row.get(name) for name in schema.names} for row in rows]


def test_most_lines_are_read_a_block_at_a_time(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "t{i}", "n": {i}}}\n' for i in range(3000)))
    source = Jsonl(path=str(tmp_path / "a.jsonl"))
    [table] = [result for origin in source.origins() for result in source.read(origin)]
    assert isinstance(table, pa.Table)
    assert table.column("key")[:2].to_pylist() == ["a/000000000000", "a/000000000023"]
    assert len(table) == 3000


def test_another_way_of_reading_is_another_fingerprint(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"v": "text"}\n')
    texts = Jsonl(path=str(tmp_path)).kinds()
    (tmp_path / "a.jsonl").write_text('{"v": {"x": 1}}\n')
    objects = Jsonl(path=str(tmp_path)).kinds()
    assert Jsonl(path=str(tmp_path)).writes().fields["v"] == pa.string()
    assert texts != objects
