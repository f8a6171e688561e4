"""What a data set holds: groups, quantiles, SQL, and what a filter would do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import webdataset
from typer.testing import CliRunner

from pipelines.cli import app

RECIPE = """\
flows:
  texts:
    - ingest.jsonl: {path: in.jsonl, columns: {text: string, task: string, duration: float, n: int}}
    - filter.where: {as: short, sql: "n % 10 <> 9", reason: nine}
outputs:
  texts: {pack: texts, to: out/texts, shard: {samples: 40}}
"""


def omnicurate(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result.output


def stats(*arguments: str) -> dict:
    return json.loads(omnicurate("stats", "out/texts", "--json", *arguments))


@pytest.fixture(autouse=True)
def _published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"text": "x" * 10, "task": "asr" if i % 4 else None, "duration": i / 2 if i % 2 else None, "n": i}
        for i in range(100)
    ]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("r.yaml").write_text(RECIPE)
    omnicurate("run", "r.yaml", "--engine", "local", "--json")


def test_groups_add_up_to_the_whole():
    found = stats()
    assert (found["samples"], found["rejected"], found["shards"], found["characters"]) == (90, 10, 3, 900)
    assert found["shard_samples"] == {"min": 10, "mean": 30, "max": 40}
    assert [group["by"] for group in found["groups"]] == [["source"], ["task"], ["modality"]]
    for group in found["groups"]:
        for name in ("samples", "characters", "duration"):
            assert sum(row[name] or 0 for row in group["rows"]) == pytest.approx(found[name])
    tasks = found["groups"][1]["rows"]
    assert [(row["group"]["task"], row["samples"]) for row in tasks] == [("asr", 65), (None, 25)]
    assert found["groups"][2]["rows"][0]["group"] == {"modality": "text"}


def test_quantiles_are_of_values_that_are_there():
    rows = {row["column"]: row for row in stats()["quantiles"]}
    kept = sorted(i / 2 for i in range(100) if i % 2 and i % 10 != 9)
    assert rows["duration"]["p50"] in kept
    assert rows["duration"]["p50"] == kept[(len(kept) - 1) // 2]
    assert rows["duration"]["present"] == pytest.approx(len(kept) / 90)
    assert "text" not in rows


def test_quantiles_of_large_sets_are_of_some_samples(monkeypatch):
    monkeypatch.setattr("pipelines.inspect.stats._PICKED", 45)
    found = stats()
    assert 20 < found["picked"] < 70
    assert found["characters"] == 900
    assert "quantiles of " in omnicurate("stats", "out/texts")


def test_by_any_columns():
    [group] = stats("--by", "task,n")["groups"]
    assert group["by"] == ["task", "n"]
    assert len(group["rows"]) == 90
    [group] = stats("--by", "modality, task")["groups"]
    assert [list(row["group"].values()) for row in group["rows"]] == [["text", "asr"], ["text", None]]
    assert "did you mean 'task'?" in omnicurate("stats", "out/texts", "--by", "tusk", code=1)
    assert "and 70 more; --json lists all" in omnicurate("stats", "out/texts", "--by", "n")


def test_tokens_take_the_place_of_characters():
    rows = [{"text": "one two", "tokens": i} for i in range(5)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("r.yaml").write_text(
        "flows: {texts: [ingest.jsonl: {path: in.jsonl, columns: {text: string, tokens: int}}]}\n"
        "outputs: {texts: {pack: texts, to: out/texts}}\n"
    )
    omnicurate("run", "r.yaml", "--engine", "local", "--json")
    found = stats()
    assert found["tokens"] == 10
    assert "characters" not in found


def test_what_a_filter_would_do():
    found = stats("--what-if", "duration between 10 and 20")
    kept = [i for i in range(100) if i % 2 and i % 10 != 9 and 20 <= i <= 40]
    assert (found["samples"], found["kept"], found["dropped"]) == (90, len(kept), 90 - len(kept))
    assert found["by"] == ["task"]
    assert sum(row["kept"] for row in found["rows"]) == len(kept)
    [row] = found["rejects"]
    assert row == {"flow": "texts", "step": "short", "reason": "nine", "rejected": 10, "meet": 2}
    assert stats("--what-if", "n < 50", "--by", "modality")["rows"][0]["group"] == {"modality": "text"}
    output = omnicurate("stats", "out/texts", "--what-if", "N < 50 -- half")
    assert "of the rejects, 5 of 10 meet it" in output


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("durration > 1", "did you mean 'duration'?"),
        ("n >", "not an SQL expression"),
        ("count(*) > 1", "needs many rows"),
        ("n > 'x'", "cannot be used"),
    ],
)
def test_conditions_that_cannot_be_used_are_errors(condition, message):
    assert message in omnicurate("stats", "out/texts", "--what-if", condition, code=1)


def test_sql_over_samples_rejects_and_lineage():
    rows = json.loads(omnicurate("stats", "out/texts", "--json", "--sql", "SELECT count(*) AS n FROM rejects"))
    assert rows == [{"n": 10}]
    assert json.loads(omnicurate("stats", "out/texts", "--json", "--sql", "FROM lineage")) == []
    assert "asr" in omnicurate("stats", "out/texts", "--sql", "SELECT task, count(*) FROM samples GROUP BY ALL")
    assert "not one SELECT" in omnicurate("stats", "out/texts", "--sql", "DROP VIEW samples", code=1)
    assert "exclude each other" in omnicurate("stats", "out/texts", "--sql", "FROM samples", "--columns", code=1)


def test_foreign_tars_have_modalities_too():
    with webdataset.TarWriter("a.tar") as sink:
        for i in range(4):
            sound = {"flac": b"fLaC" * 100} if i else {}
            sink.write({"__key__": f"s{i}", "jpg": b"\xff\xd8" + bytes(98), "json": {"text": "cat"}, **sound})
    found = json.loads(omnicurate("stats", "a.tar", "--json"))
    assert found["shard_samples"] == {"min": 4, "mean": 4, "max": 4}
    [group] = [group for group in found["groups"] if group["by"] == ["modality"]]
    rows = [(row["group"]["modality"], row["samples"], row["bytes"]) for row in group["rows"]]
    assert rows == [("audio+image+text", 3, 1500), ("image+text", 1, 100)]
    assert json.loads(omnicurate("stats", "a.tar", "--what-if", "text = 'cat'", "--json"))["kept"] == 4
