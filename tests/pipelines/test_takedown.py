"""What is in a list of keys decides a result, not where the list lies."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from pipelines.cli import app

RECIPE = """\
flows:
  texts:
    - ingest.jsonl: {path: in.jsonl, id: id, columns: {text: string, who: string}}
    - select.keys: {file: %s}
    - select.split: {by: who, shares: {train: 0.5, test: 0.5}}
outputs:
  texts: {pack: texts, to: out/texts}
"""


def omnicurate(command: str, listed: str, *options: str) -> dict:
    Path("r.yaml").write_text(RECIPE % listed)
    result = CliRunner().invoke(app, [command, "r.yaml", "--json", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def to_do(listed: str) -> int:
    return sum(node["todo"] for node in omnicurate("plan", listed)["nodes"] if node["kind"] == "rows")


def samples(listed: str) -> int:
    [output] = omnicurate("run", listed, "--engine", "local")["outputs"]
    return output["samples"]


def test_a_longer_list_is_a_new_result_and_a_moved_one_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"{i}", "text": f"t{i}", "who": f"w{i % 3}"} for i in range(10)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("list.txt").write_text("texts/3\n")
    assert samples("list.txt") == 9
    Path("list.txt").rename("moved.txt")
    assert to_do("moved.txt") == 0
    Path("moved.txt").write_text("texts/3\ntexts/5\n")
    assert to_do("moved.txt") == 1
    assert samples("moved.txt") == 8
