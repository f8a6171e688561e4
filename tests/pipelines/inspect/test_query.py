"""SQL over a data set: it sees the samples and the rejects, and nothing else of the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import webdataset

from pipelines.engine import Engine
from pipelines.executors import executor_for
from pipelines.inspect.dataset import DataSet, open_dataset, query
from pipelines.plan import make_plan, store_root
from pipelines.progress import Log
from schemas.errors import DataError, StoreError
from schemas.store import Store

RECIPE = """\
flows:
  texts:
    - ingest.jsonl: {path: in.jsonl, columns: {text: string, n: int}}
    - filter.where: {sql: "n % 2 = 0", reason: odd}
outputs:
  texts: {pack: texts, to: out/texts, shard: {samples: 3}}
"""
REFUSED = {
    "COPY samples TO 'x.csv'": "not one SELECT",
    "CREATE TABLE mine AS FROM samples": "not one SELECT",
    "DROP VIEW samples": "not one SELECT",
    "ATTACH 'x.db'": "not one SELECT",
    "SET enable_external_access = true": "not one SELECT",
    "INSTALL httpfs": "not one SELECT",
    "SELECT 1; SELECT 2": "not one SELECT",
    "SELECT 1; DROP VIEW samples": "not one SELECT",
    "": "not one SELECT",
    "FROM read_csv('in.jsonl')": "Permission Error",
    "FROM read_text('in.jsonl')": "Permission Error",
    "FROM 'in.jsonl'": "Permission Error",
    "FROM glob('*')": "Permission Error",
    "SELECT nope FROM samples": '"nope" not found',
    "SELECT": "Parser Error",
    "SELECT text::INT FROM samples": "Conversion Error",
    "FROM nothing": "nothing does not exist",
    "FROM secret": "secret does not exist",
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def published(rows: range = range(10)) -> DataSet:
    Path("in.jsonl").write_text("".join(json.dumps({"text": f"t{i}", "n": i}) + "\n" for i in rows))
    plan = make_plan("r.yaml", RECIPE)
    store = Store(store_root(plan))
    with executor_for("local", store, plan.models) as executor, open("log", "w") as log:
        Engine(plan, store, executor, Log(log)).run()
    return open_dataset("out/texts")


def foreign() -> DataSet:
    with webdataset.TarWriter("a.tar") as sink:
        for i in range(3):
            sink.write({"__key__": f"s{i}", "txt": f"t{i}", "json": {"n": i}})
    return open_dataset("a.tar")


def test_one_connection_sees_samples_and_rejects():
    with published().connect() as connection:
        both = "SELECT n FROM samples UNION ALL SELECT n FROM rejects ORDER BY n"
        assert query(connection, both).column("n").to_pylist() == list(range(10))
        [row] = query(connection, "SELECT key, reason FROM rejects WHERE n = $n", {"n": 3}).to_pylist()
        assert row["reason"] == "odd"


def test_rejects_are_empty_where_there_are_none():
    for data in (published(range(0, 10, 2)), foreign()):
        with data.connect() as connection:
            assert query(connection, "SELECT key, flow, step, reason, detail FROM rejects").num_rows == 0
            assert query(connection, "FROM samples").num_rows > 0


@pytest.mark.parametrize("sql", REFUSED)
def test_nothing_else_can_be_read_or_written(sql):
    secret = [{"a": 1}]  # a variable that DuckDB's replacement scans would find
    data = published()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=REFUSED[sql]), data.connect() as connection:
        query(connection, sql)
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}, secret


def test_a_damaged_file_is_named_however_it_is_asked_for():
    data = published()
    Path(data.rejected[0]).write_bytes(b"PAR1")
    with data.connect() as connection:
        assert query(connection, "FROM samples").num_rows == 5
    with pytest.raises(StoreError, match="is damaged"), data.connect() as connection:
        query(connection, "SELECT reason FROM rejects")
