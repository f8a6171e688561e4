"""What changed between two versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.inspect.diff import recipe_differences

RECIPE = """\
flows:
  texts:
    - ingest.jsonl: {path: in.jsonl, id: id, columns: {id: string, text: string, task: string, n: int}}
    - filter.where: {sql: "n < 8", reason: large}
outputs:
  texts: {pack: texts, to: out/texts}
"""


def omnicurate(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result.output


def publish(rows: list[dict], recipe: str = RECIPE) -> str:
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("r.yaml").write_text(recipe)
    report = json.loads(omnicurate("run", "r.yaml", "--engine", "local", "--json"))
    return report["outputs"][0]["path"]


@pytest.fixture(autouse=True)
def _two_versions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"k{i}", "text": f"t{i}", "task": "asr" if i % 2 else "qa", "n": i} for i in range(10)]
    publish(rows)
    rows[1]["text"] = "another"
    publish([*rows, {"id": "k99", "text": "new", "task": "ocr", "n": 0}], RECIPE.replace("n < 8", "n < 6"))


def test_the_two_newest_versions_are_compared():
    found = json.loads(omnicurate("diff", "out/texts", "--json"))
    assert found["recipe"] == [{"path": "flows.texts.1.filter.where.sql", "old": "n < 8", "new": "n < 6"}]
    assert found["samples"] == {"old": 8, "new": 7, "added": 1, "removed": 2, "changed": 1}
    assert found["keys"] == {"added": ["texts/k99"], "removed": ["texts/k6", "texts/k7"], "changed": ["texts/k1"]}
    assert found["columns"] == {"text": 1}
    assert found["rejected"] == [{"step": "where", "reason": "large", "samples": 2}]
    [tasks] = [group["rows"] for group in found["groups"] if group["by"] == "task"]
    assert {row["value"]: (row["old"], row["new"], row["added"], row["removed"]) for row in tasks} == {
        "asr": (4, 3, 0, 1),
        "qa": (4, 3, 0, 1),
        "ocr": (0, 1, 1, 0),
    }
    steps = {step["step"]: (step["old"]["kept"], step["new"]["kept"]) for step in found["steps"]}
    assert steps == {"jsonl": (10, 11), "where": (8, 7), "pack": (8, 7)}


def test_it_can_be_read():
    output = omnicurate("diff", "out/texts")
    assert 'flows.texts.1.filter.where.sql: "n < 8" -> "n < 6"' in output
    assert "- texts/k6" in output
    assert "of the removed, now rejected 2 large (where)" in output


def test_every_key_can_be_listed():
    lines = ["~ texts/k1", "- texts/k6", "- texts/k7", "+ texts/k99"]
    assert omnicurate("diff", "out/texts", "--keys").splitlines() == lines
    assert len(json.loads(omnicurate("diff", "out/texts", "--keys", "--json"))) == 4


def test_a_version_is_like_itself():
    found = json.loads(omnicurate("diff", "out/texts/latest", "out/texts/latest", "--json"))
    assert found["samples"] == {"old": 7, "new": 7, "added": 0, "removed": 0, "changed": 0}
    assert found["recipe"] == []


def test_foreign_tars_can_be_compared():
    found = json.loads(omnicurate("diff", "out/texts", "out/texts/latest/shards", "--json", code=0))
    assert found["samples"]["new"] == 7
    assert found["recipe"] == []


def test_one_version_alone_cannot_be_compared():
    publish([{"id": "a", "text": "t", "task": "qa", "n": 1}], RECIPE.replace("out/texts", "out/one"))
    assert "does not hold two published versions" in omnicurate("diff", "out/one", code=1)
    assert "several data sets" in omnicurate("diff", "out", code=1)


def test_an_inserted_step_is_one_difference():
    steps = [{"ingest.jsonl": {"path": "a"}}, {"text.clean": {}}, {"filter.where": {"sql": "n > 1"}}]
    more = [steps[0], {"text.measure": {}}, steps[1], {"filter.where": {"sql": "n > 2"}}]
    assert list(recipe_differences({"f": steps}, {"f": more})) == [
        {"path": "f.1", "new": {"text.measure": {}}},
        {"path": "f.3.filter.where.sql", "old": "n > 1", "new": "n > 2"},
    ]
    assert list(recipe_differences({"f": steps}, {"f": steps[:2], "seed": 1})) == [
        {"path": "f.2", "old": {"filter.where": {"sql": "n > 1"}}},
        {"path": "seed", "new": 1},
    ]
