"""What is in a list of keys decides a result, not where the list lies."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
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
    return invoke(command, "r.yaml", *options)


def invoke(*arguments: str) -> dict:
    result = CliRunner().invoke(app, [*arguments, "--json"])
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


def test_dropped_samples_are_gone_with_their_descendants_and_their_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"{i}", "text": f"Secret {i}. More of {i}."} for i in range(10)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("r.yaml").write_text(
        "flows:\n  texts: [ingest.jsonl: {path: in.jsonl, id: id}]\n"
        "  pieces: [from: texts, text.split: {words: 2}]\n"
        "  sft: [mix: {sources: {pieces: {epochs: 2}}, total: 60}]\n"
        "outputs:\n  texts: {pack: texts, to: out/texts}\n  sft: {pack: sft, to: out/sft, shard: {samples: 25}}\n"
    )
    invoke("run", "r.yaml", "--engine", "local")
    old = Path("out/sft/latest").resolve()
    Path("gone.csv").write_text("key,why\ntexts/3,asked\ntexts/4-0001,asked\nunknown,\n")
    report = invoke("drop", "out/sft", "--keys", "gone.csv")
    new = Path("out/sft/latest").resolve()
    assert new != old
    keys = {path.name.partition(".")[0] for path in new.rglob("*.tar")}
    assert keys == {"sft-000000", "sft-000001", "sft-000002"}  # as large as the recipe of the old version wants them
    assert report["outputs"][0]["samples"] == 60 - 3 * 2 - 2
    held = b"".join(path.read_bytes() for path in new.rglob("*") if path.is_file())
    assert b"texts/3-0000" in held  # as a reject, by its key
    for path in new.rglob("*.parquet"):
        table = pq.read_table(path).drop_columns(["lineage"])
        assert not any("Secret 3" in str(row) or "of 3." in str(row) for row in table.to_pylist())
    assert not any(b"Secret 3" in path.read_bytes() for path in new.rglob("*.tar"))
    holders = {Path(found["path"]).parent.name: found["samples"] for found in report["holders"]}
    assert holders == {"texts": 1, "sft": 8}
    assert [Path(found["path"]).name for found in report["holders"] if "sft" in found["path"]] == [old.name]


def test_there_must_be_a_data_set_and_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "out/sft is no published data set" in CliRunner().invoke(app, ["drop", "out/sft", "--keys", "k.txt"]).output


def test_keys_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("".join(json.dumps({"id": f"{i}", "text": "t"}) + "\n" for i in range(3)))
    Path("r.yaml").write_text(
        "flows: {texts: [ingest.jsonl: {path: in.jsonl, id: id}]}\noutputs: {texts: {pack: texts, to: out/texts}}\n"
    )
    invoke("run", "r.yaml", "--engine", "local")
    before = Path("out/texts/latest").resolve()
    Path("k.txt").write_text("text/1\n")
    result = CliRunner().invoke(app, ["drop", "out/texts", "--keys", "k.txt"])
    assert result.exit_code == 1
    assert "none of the 1 keys in k.txt" in result.output
    assert Path("out/texts/latest").resolve() == before
    Path("k.txt").write_text("text/1\ntexts/1\n")
    assert invoke("drop", "out/texts", "--keys", "k.txt")["missing"] == ["text/1"]
