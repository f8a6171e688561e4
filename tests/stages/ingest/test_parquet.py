import datetime

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
    }
    assert found["t/000000002"].columns["meta"] is None


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
