import datetime
import os

import pyarrow as pa
import pyarrow.parquet as pq

from stages.base import New
from stages.ingest.parquet import Parquet


def table():
    return pa.table(
        {
            "id": pa.array(["a", "b", "c", "d"]),
            "n": pa.array([1, 2, None, 4], pa.int16()),
            "width": pa.array([640, 640, 640, 640], pa.int64()),
            "when": pa.array([datetime.date(2024, 1, 2)] * 4),
            "vector": pa.array([[0.5], [], None, [1.0, 2.0]], pa.list_(pa.float32())),
            "kind": pa.array(["x", "y", "x", None]).dictionary_encode(),
            "meta": pa.array([{"a": 1}, {"a": None}, None, {"a": 2}]),
            "bytes": pa.array([b"\xff"] * 4),
        }
    )


def test_types_and_rows(tmp_path, rows):
    pq.write_table(table(), tmp_path / "t.parquet")
    source = Parquet(path=str(tmp_path))
    assert {name: str(kind) for name, kind in source.writes().fields.items()} == {
        "id": "string",
        "n": "int64",
        "width": "int32",
        "when": "string",
        "vector": "list<item: double>",
        "kind": "string",
        "meta": "string",
        "extra": "string",
    }
    found = rows(source)
    assert list(found) == [f"t/{i:09d}" for i in range(4)]
    assert found["t/000000000"].columns == {
        "id": "a",
        "n": 1,
        "width": 640,
        "when": "2024-01-02",
        "vector": [0.5],
        "kind": "x",
        "meta": '{"a":1}',
        "extra": '{"bytes":"/w=="}',
    }
    assert found["t/000000002"].columns["meta"] is None


def test_bytes_are_never_lost_unseen(tmp_path, rows):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "text": ["a", "b", "c"],
            "digest": pa.array([b"\x01\x02", None, b""], pa.binary()),
            "fixed": pa.array([b"ab", b"cd", b"ef"], pa.binary(2)),
            "image": pa.array([{"bytes": b"x", "path": "p"}, None, {"bytes": bytes(2000), "path": None}], image),
            "list": pa.array([[b"x", b"y"], [], None], pa.list_(pa.large_binary())),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    source = Parquet(path=str(tmp_path))
    assert list(source.check()) == []
    first, second, third = rows(source).values()
    assert first.columns == {
        "text": "a",
        "extra": '{"digest":"AQI=","fixed":"YWI=","image":{"bytes":"eA==","path":"p"},"list":["eA==","eQ=="]}',
    }
    assert second.columns["extra"] == '{"fixed":"Y2Q=","list":[]}'
    assert (third.reason, third.detail) == ("many_bytes", "image: 2000 bytes")
    skipping = rows(Parquet(path=str(tmp_path), skip=["image", "list", "fixed"]))
    assert [result.columns.get("extra") for result in skipping.values()] == ['{"digest":"AQI="}', None, '{"digest":""}']
    declared = rows(Parquet(path=str(tmp_path), columns={"digest": "string"}, skip=["image"]))
    assert declared["t/000000000"].columns["digest"] == "AQI="


def test_columns_of_many_bytes_stop_the_recipe(tmp_path):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [{"bytes": os.urandom(5000), "path": "p"}] * 9
    pq.write_table(pa.table({"text": ["t"] * 9, "image": pa.array(values, image)}), tmp_path / "t.parquet")
    pq.write_table(pa.table({"blob": [os.urandom(2000) for _ in range(9)]}), tmp_path / "u.parquet")
    assert list(Parquet(path=str(tmp_path / "t.parquet"), skip=["image"]).check()) == []
    [problem] = Parquet(path=str(tmp_path / "u.parquet")).check()
    assert "about 2000 in" in problem
    assert "`skip: [blob]`" in problem
    [problem] = Parquet(path=str(tmp_path / "u.parquet"), skip=["blob", "bolb"]).check()
    assert "did you mean 'blob'" in problem


def test_row_groups_are_pieces(tmp_path, rows):
    pq.write_table(table(), tmp_path / "t.parquet", row_group_size=1)
    assert [(o.start, o.end) for o in Parquet(path=str(tmp_path), unit=3).origins()] == [(0, 3), (3, 4)]
    pieces = rows(Parquet(path=str(tmp_path), unit=1, columns={"n": "int"}))
    assert list(pieces) == [f"t/{i:09d}" for i in range(4)]
    assert pieces["t/000000001"].columns["n"] == 2
    assert '"id":"b"' in pieces["t/000000001"].columns["extra"]


def test_broken_files_and_other_types_are_rejects(tmp_path, rows):
    pq.write_table(table(), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": ["many"]}), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no PAR1")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "d.parquet").write_bytes(data[:8] + bytes(200) + data[208:])
    found = rows(Parquet(path=str(tmp_path)))
    assert [key for key, result in found.items() if not isinstance(result, New)] == [
        "c/000000000-broken",
        "d/000000000-broken",
    ]
    assert found["b/000000000"].columns["n"] == "many"  # the engine rejects it as wrong_type
