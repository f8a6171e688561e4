"""The history of a sample, over several data sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from typer.testing import CliRunner

from pipelines.cli import app
from schemas.columns import LINEAGE

RECIPE = """\
flows:
  left:
    - ingest.jsonl: {path: left.jsonl, id: id, columns: {id: string, text: string}}
    - text.split: {as: cut, field: text}
  right:
    - ingest.jsonl: {path: right.jsonl, id: id, columns: {id: string, text: string}}
  all:
    - union: [left, right]
    - filter.where: {as: long, sql: "length(text) > 3", reason: too_short}
outputs:
  all: {pack: all, to: OUT}
"""
PLAIN = RECIPE.replace("    - text.split: {as: cut, field: text}\n", "")


def omnicurate(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result.output


def publish(out: str) -> Path:
    Path("r.yaml").write_text(PLAIN.replace("OUT", out))
    report = json.loads(omnicurate("run", "r.yaml", "--engine", "local", "--json"))
    return Path(report["outputs"][0]["path"])


def set_lineage(version: Path, of: dict[str, list[dict]]) -> None:
    """Write the column `lineage` into a published index, as a stage would have."""
    [index] = version.glob("index/*.parquet")
    table = pq.read_table(index)
    values = [of.get(key) for key in table.column("key").to_pylist()]
    pq.write_table(table.append_column("lineage", pa.array(values, LINEAGE)), index, compression="zstd")
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["columns"]["lineage"] = str(LINEAGE)
    (version / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for flow in ("left", "right"):
        rows = [{"id": "a", "text": "long enough"}, {"id": "b", "text": "no"}]
        Path(f"{flow}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_steps_of_its_own_branch():
    publish("out/all")
    found = json.loads(omnicurate("trace", "out/all", "left/a", "--json"))
    assert [(step["flow"], step["step"]) for step in found["steps"]] == [
        ("left", "jsonl"),
        ("all", "long"),
        ("all", "pack"),
    ]
    assert found["steps"][1]["options"] == {"sql": "length(text) > 3", "reason": "too_short"}
    assert found["source"] == "left"
    assert found["decision"] == {"kept": True}


def test_a_reject_ends_where_it_was_rejected():
    publish("out/all")
    found = json.loads(omnicurate("trace", "out/all", "right/b", "--json"))
    assert [step["step"] for step in found["steps"]] == ["jsonl", "long"]
    decision = {"kept": False, "flow": "all", "step": "long", "reason": "too_short", "detail": ""}
    assert found["decision"] == decision
    assert "rejected by long, too_short" in omnicurate("trace", "out/all", "right/b")


def test_ancestors_are_followed_into_other_data_sets():
    first, second, third = (publish(f"out/{name}") for name in ("first", "second", "third"))
    old = {"step": "read", "key": "right/a", "dataset": versioned(first)}
    unpublished = {"step": "split", "key": "x/1", "dataset": None}
    gone = {"step": "dedup", "key": "y/1", "dataset": "gone/12345678"}
    set_lineage(second, {"left/a": [old]})
    set_lineage(
        third, {"left/a": [gone, unpublished, {"step": "again", "key": "left/a", "dataset": versioned(second)}]}
    )
    found = json.loads(omnicurate("trace", "out/third", "left/a", "--json"))
    [again] = found["ancestors"]  # which leads to those before it
    assert again["trace"]["dataset"] == str(second.absolute())
    [inner] = again["trace"]["ancestors"]
    assert inner["trace"]["key"] == "right/a"
    assert inner["trace"]["steps"][0]["flow"] == "right"
    shutil.rmtree(second)
    found = json.loads(omnicurate("trace", "out/third", "left/a", "--json"))
    again, split, dedup = found["ancestors"]
    assert (again["trace"], again["note"]) == (None, f"{versioned(second)}, which was not found")
    assert (split["trace"], split["note"]) == (None, "")
    assert dedup["note"] == "gone/12345678, which was not found"
    output = omnicurate("trace", "out/third", "left/a")
    assert "was its key" in output
    rows = json.loads(omnicurate("stats", "out/third", "--json", "--sql", "FROM lineage WHERE step = 'split'"))
    assert rows == [{"key": "left/a", "step": "split", "ancestor": "x/1", "dataset": None}]


def versioned(root):
    """How lineage names a version."""
    return "/".join(root.absolute().parts[-2:])


def test_a_ring_of_ancestors_ends():
    first, second = publish("out/first"), publish("out/second")
    for one, other in ((first, second), (second, first)):
        set_lineage(one, {"left/a": [{"step": "s", "key": "left/a", "dataset": versioned(other)}]})
    found = json.loads(omnicurate("trace", "out/first", "left/a", "--json"))
    [inner] = found["ancestors"][0]["trace"]["ancestors"]
    assert inner["note"] == "its history stands above"


def test_foreign_tars_have_no_history():
    with webdataset.TarWriter("a.tar") as sink:
        sink.write({"__key__": "s", "json": {"text": "t", "lineage": "mine"}})
    found = json.loads(omnicurate("trace", "a.tar", "s", "--json"))
    assert (found["steps"], found["ancestors"], found["decision"]) == ([], [], {"kept": True})


def test_an_unknown_key_names_the_nearest():
    publish("out/all")
    error = omnicurate("trace", "out/all", "left/aa", code=1)
    assert "there is no sample 'left/aa'" in error
    assert "the nearest keys: left/a, left/b" in error
