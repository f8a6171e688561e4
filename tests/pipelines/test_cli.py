"""The commands as people use them, on real and on broken input."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import webdataset
from typer.testing import CliRunner

from pipelines.cli import app


def omnicurate(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result.output


def run(recipe: str, code: int = 0) -> dict:
    Path("r.yaml").write_text(recipe)
    output = omnicurate("run", "r.yaml", "--engine", "local", "--json", code=code)
    return json.loads(output) if code == 0 else {"error": output}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def foreign_tar(path: str) -> None:
    with webdataset.TarWriter(path) as sink:
        for i in range(7):
            sink.write({"__key__": f"s{i}", "jpg": b"\xff\xd8" + bytes(i), "json": {"caption": f"cat {i}", "width": i}})


JSONL = """\
flows:
  texts:
    - ingest.jsonl: {path: in.jsonl, columns: {text: string, n: int}}
    - filter.where: {sql: "n % 2 = 0", reason: odd}
outputs:
  texts: {pack: texts, to: out/texts, shard: {samples: 3}}
"""


def test_looking_at_a_published_data_set():
    Path("in.jsonl").write_text("".join(json.dumps({"text": f"t{i}", "n": i, "more": [i]}) + "\n" for i in range(10)))
    report = run(JSONL)
    [output] = report["outputs"]
    assert (output["samples"], output["rejected"], output["shards"]) == (5, 5, 2)
    found = json.loads(omnicurate("stats", "out/texts", "--json"))
    assert (found["samples"], found["rejected"]) == (5, 5)
    columns = json.loads(omnicurate("stats", "out/texts", "--columns", "--json"))["columns"]
    assert {c["column"]: (c["min"], c["max"]) for c in columns}["n"] == (0, 8)
    assert "t2" in omnicurate("show", "out/texts", "-n", "5")
    rejects = [json.loads(line) for line in omnicurate("show", "out/texts", "--rejects", "--json").splitlines()]
    assert [(row["reason"], row["n"]) for row in rejects] == [("odd", 1), ("odd", 3), ("odd", 5)]
    key = rejects[0]["key"]
    assert "odd" in omnicurate("show", "out/texts", key)
    assert "no sample" in omnicurate("show", "out/texts", "nobody", code=1)
    assert "all well" in omnicurate("verify", "out/texts")
    assert "latest" in omnicurate("ls")
    assert "would delete 0 objects" in omnicurate("gc")


def test_verify_finds_what_was_changed():
    Path("in.jsonl").write_text("".join(json.dumps({"text": f"t{i}", "n": i}) + "\n" for i in range(10)))
    run(JSONL)
    shard = Path("out/texts/latest/shards/texts-000001.tar")
    raw = bytearray(shard.read_bytes())
    raw[520] ^= 1
    shard.write_bytes(bytes(raw))
    Path("out/texts/latest/shards/texts-000000.tar").unlink()
    output = omnicurate("verify", "out/texts", code=1)
    assert "texts-000001.tar: its bytes are not what was published" in output
    assert "texts-000000.tar: missing" in output


def test_foreign_tars_can_be_looked_at():
    foreign_tar("foreign.tar")
    found = json.loads(omnicurate("stats", "foreign.tar", "--json"))
    assert found["samples"] == 7
    media = json.loads(omnicurate("stats", "foreign.tar", "--columns", "--json"))["media"]
    assert [(part["name"], part["samples"]) for part in media] == [("image", 7)]
    assert "cat 3" in omnicurate("show", "foreign.tar", "-n", "7")
    assert "7 samples in 1 shards: all well" in omnicurate("verify", "foreign.tar")


def test_a_truncated_tar_gives_its_whole_samples_and_one_reject():
    foreign_tar("whole.tar")
    raw = Path("whole.tar").read_bytes()
    Path("cut.tar").write_bytes(raw[: len(raw) // 2])
    report = run("flows: {t: [ingest.webdataset: {path: cut.tar}]}\noutputs: {t: {pack: t, to: out/t}}\n")
    [output] = report["outputs"]
    assert output["rejected"] == 1
    assert list(output["steps"][0]["rejected"]) == ["truncated"]
    assert 0 < output["samples"] < 7
    assert "truncated" in omnicurate("verify", "cut.tar", code=1)


def test_bad_rows_are_counted_and_nothing_is_lost():
    rows = [b'{"text": "good", "n": 2}', b'{"text": "broken"', b"[1]", b'{"text": "\xff\xfe", "n": 2}', b""]
    rows += [b'{"text": 5, "n": 2}', b'{"text": "half", "n": 2.5}', b'{"text": "lone \\ud800", "n": 2}']
    Path("in.jsonl").write_bytes(b"\n".join(rows))
    [output] = run(JSONL)["outputs"]
    [source, *_] = output["steps"]
    assert source["read"] == source["kept"] + sum(source["rejected"].values())
    assert source["kept"] == output["samples"] == 1
    assert sum(source["rejected"].values()) == output["rejected"]
    assert {"broken_json", "not_an_object", "not_utf8", "wrong_type"} <= source["rejected"].keys()


def test_duplicate_keys_are_rejected_at_the_pack():
    Path("in.jsonl").write_text("".join(json.dumps({"id": i % 4, "text": "t", "n": i}) + "\n" for i in range(6)))
    recipe = JSONL.replace("n: int}}", "n: int}, id: id}").replace('sql: "n % 2 = 0"', 'sql: "n >= 0"')
    [output] = run(recipe)["outputs"]
    assert output["samples"] == 4
    assert output["steps"][-1]["rejected"] == {"duplicate_key": 2}
    rejects = [json.loads(line) for line in omnicurate("show", "out/texts", "--rejects", "--json").splitlines()]
    assert [(row["reason"], row["n"]) for row in rejects] == [("duplicate_key", 4), ("duplicate_key", 5)]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_input_fails_loudly(content):
    Path("in.jsonl").write_text(content)
    error = run(JSONL, code=1)["error"]
    assert "no sample is left for the output 'texts'" in error
    assert not Path("out/texts/latest").exists()


def test_a_filter_that_keeps_nothing_shows_the_funnel():
    Path("in.jsonl").write_text('{"text": "t", "n": 1}\n')
    error = run(JSONL, code=1)["error"]
    assert "texts.where: 1 read, 0 kept (1 odd)" in error


def test_a_wrong_recipe_is_refused_with_exit_code_2():
    error = run(JSONL.replace("pack: texts", "pack: text"), code=2)["error"]
    assert error.startswith("error: r.yaml:3:7: ")


def test_an_empty_tar_and_an_empty_folder():
    Path("tars").mkdir()
    with tarfile.open("tars/a.tar", "w"):
        pass
    error = run("flows: {t: [ingest.webdataset: {path: tars}]}\noutputs: {t: {pack: t, to: out/t}}\n", code=1)["error"]
    assert "no sample is left" in error
    assert "neither a published data set nor" in omnicurate("stats", ".omnicurate", code=1)
    assert "there is nothing at nowhere" in omnicurate("stats", "nowhere", code=1)


def test_a_union_and_a_join():
    Path("a.jsonl").write_text("".join(json.dumps({"id": f"a{i}", "text": f"t{i}"}) + "\n" for i in range(6)))
    Path("b.jsonl").write_text(
        "".join(json.dumps({"id": f"b{i}", "name": f"t{i}", "score": i / 2}) + "\n" for i in range(4))
    )
    recipe = """\
flows:
  a: [ingest.jsonl: {path: a.jsonl, id: id, columns: {text: string}}]
  b: [ingest.jsonl: {path: b.jsonl, id: id, columns: {name: string, score: float}}]
  joined: [join: {left: a, right: b, by: text, right_by: name, columns: [score], buckets: 3}]
  both: [union: [joined, b], select.shuffle]
outputs:
  joined: {pack: joined, to: out/joined}
  both: {pack: both, to: out/both}
"""
    outputs = {output["name"]: output for output in run(recipe)["outputs"]}
    assert outputs["joined"]["samples"] == 4
    assert outputs["both"]["samples"] == 8
    assert outputs["joined"]["steps"][-2]["rejected"] == {"unmatched": 2}
    rows = [json.loads(line) for line in omnicurate("show", "out/joined", "--json", "-n", "9").splitlines()]
    assert {row["key"]: row["score"] for row in rows} == {f"a/a{i}": i / 2 for i in range(4)}


def test_packed_shards_can_be_ingested_again():
    foreign_tar("foreign.tar")
    recipe = "flows: {t: [ingest.webdataset: {path: PATH}]}\noutputs: {t: {pack: t, to: TO}}\n"
    run(recipe.replace("PATH", "foreign.tar").replace("TO", "out/once"))
    run(recipe.replace("PATH", "out/once/latest/shards").replace("TO", "out/twice"))
    rows = [json.loads(line) for line in omnicurate("show", "out/twice", "--json", "-n", "9").splitlines()]
    assert [row["caption"] for row in rows] == [f"cat {i}" for i in range(7)]
    with tarfile.open("out/twice/latest/shards/twice-000000.tar") as tar:
        images = [tar.extractfile(member).read() for member in tar if member.name.endswith(".jpg")]
    assert images == [b"\xff\xd8" + bytes(i) for i in range(7)]


def test_the_schema_accepts_recipes_and_describes_options():
    schema = json.loads(omnicurate("schema"))
    steps = {name: step for step in schema["$defs"]["Step"]["oneOf"] for name in step.get("properties", {})}
    where = steps["filter.where"]["properties"]["filter.where"]
    assert where["additionalProperties"] is False
    assert where["required"] == ["sql"]
    assert where["properties"]["sql"]["description"]
    sources = steps["ingest.jsonl"]["properties"]["ingest.jsonl"]["properties"]
    assert sources["unit"]["description"].startswith("Samples in a unit")


def test_the_reference_in_the_docs_is_of_this_code():
    docs = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
    assert omnicurate("schema", "--markdown") == docs.read_text(encoding="utf-8"), "make docs writes it anew"


def test_doctor_names_what_is_missing(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "soxr" else real(name, *a))
    findings = {found["what"]: found for found in json.loads(omnicurate("doctor", "--json"))}
    assert findings["soxr"]["fine"] is False
    assert "omnicurate[audio]" in findings["soxr"]["remedy"]
