"""Looking at data sets that somebody has damaged, moved or left half made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app

RECIPE = """\
flows:
  texts:
    - ingest.jsonl: {path: in.jsonl, columns: {text: string, n: int}}
    - filter.where: {sql: "n % 2 = 0", reason: odd}
outputs:
  texts: {pack: texts, to: out/texts, shard: {samples: 3}}
"""


def omnicurate(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result.output


def run(recipe: str = RECIPE, *options: str) -> dict:
    Path("r.yaml").write_text(recipe)
    return json.loads(omnicurate("run", "r.yaml", "--engine", "local", "--json", *options))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("".join(json.dumps({"text": f"t{i}", "n": i}) + "\n" for i in range(10)))


def cut(path: str) -> None:
    [found] = Path().glob(path)
    found.write_bytes(found.read_bytes()[:50])


def test_verify_reads_the_rejects_too():
    run()
    manifest = json.loads(Path("out/texts/latest/manifest.json").read_text())
    assert [(file["name"], file["rows"]) for file in manifest["rejected_files"]] == [("001-texts-where.parquet", 5)]
    assert "all well" in omnicurate("verify", "out/texts")
    cut("out/texts/latest/rejected/*.parquet")
    assert "texts-where.parquet: its bytes are not what was published" in omnicurate("verify", "out/texts", code=1)
    next(Path("out/texts/latest/rejected").iterdir()).unlink()
    assert "texts-where.parquet: missing" in omnicurate("verify", "out/texts", code=1)
