"""A small published data set with sounds and texts, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app

TEXTS = {"a": "one", "b/c": "two <script>", "d.e": "three\u2028", "f": "vier ü", "g": "five"}
RECIPE = {
    "flows": {
        "said": [
            {
                "ingest.jsonl": {
                    "path": "in.jsonl",
                    "id": "id",
                    "media": {"audio": "audio", "image": "image"},
                    "columns": {"text": "string", "caption": "string", "wer": "float"},
                }
            }
        ]
    },
    "outputs": {"said": {"pack": "said", "to": "out/said"}},
}


@pytest.fixture
def omnicurate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The command, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output + repr(result.exception)
        assert "Traceback" not in result.output
        return result.output

    return run


@pytest.fixture
def said(omnicurate: Callable[..., str]) -> dict[str, str]:
    """Published: key -> text, in the order of the data set."""
    rows = []
    for i, (name, text) in enumerate(TEXTS.items()):
        Path(f"{i}.wav").write_bytes(f"sound {i}".encode() * 100)
        rows.append({"id": name, "text": text, "audio": f"{i}.wav", "wer": i / 10, "caption": f"c{i}"})
    Path("0.jpg").write_bytes(b"\xff\xd8")
    rows[0]["image"] = "0.jpg"
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("r.yaml").write_text(json.dumps(RECIPE))
    omnicurate("run", "r.yaml", "--engine", "local")
    shown = omnicurate("show", "out/said", "-n", "9", "--json").split("\n")[:-1]
    return {row["key"]: row["text"] for row in map(json.loads, shown)}
