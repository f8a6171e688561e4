"""Looking at data sets that somebody has damaged, moved or left half made."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import webdataset
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


@pytest.mark.parametrize("damage", ["truncated", "emptied", "pages", "missing"])
def test_damaged_files_are_named_and_say_what_helps(damage):
    run()
    for folder, commands in (("index", [["show", "-n9"], ["stats"]]), ("rejected", [["show", "--rejects"]])):
        path = sorted(Path("out/texts/latest", folder).iterdir())[-1]
        raw = path.read_bytes()
        path.unlink()
        if damage != "missing":
            path.write_bytes({"truncated": raw[:50], "emptied": b"", "pages": raw[:4] + bytes(300) + raw[304:]}[damage])
        for command in commands:
            error = omnicurate(command[0], "out/texts", *command[1:], code=1)
            assert f"{path.name} is {'missing' if damage == 'missing' else 'damaged'}\n" in error
            assert "omnicurate verify" in error
        path.unlink(missing_ok=True)
        run()
        assert path.read_bytes() == raw
        omnicurate("show", "out/texts", "--rejects")


def test_damaged_rejects_do_not_hide_the_samples():
    run()
    cut("out/texts/latest/rejected/*.parquet")
    assert "t2" in omnicurate("show", "out/texts")
    omnicurate("stats", "out/texts")


def test_stats_names_a_missing_shard():
    run()
    Path("out/texts/latest/shards/texts-000001.tar").unlink()
    assert "texts-000001.tar is missing" in omnicurate("stats", "out/texts", code=1)


def test_without_latest_the_only_version_is_taken_and_several_are_named():
    run(RECIPE, "--limit", "4")  # `latest` is of whole runs alone
    assert not Path("out/texts/latest").exists()
    assert json.loads(omnicurate("stats", "out/texts", "--json"))["samples"] == 2
    run()
    Path("out/texts/latest").unlink()
    error = omnicurate("show", "out/texts", code=1)
    versions = sorted(path.name for path in Path("out/texts").glob("????????"))
    assert len(versions) == 2
    assert all(f"\n  out/texts/{version}\n" in error for version in versions)
    assert all(omnicurate("verify", f"out/texts/{version}") for version in versions)


def test_a_folder_of_data_sets_names_them():
    run()
    run(RECIPE.replace("out/texts", "out/more"))
    error = omnicurate("stats", "out", code=1)
    assert "out holds data sets" in error
    assert "\n  out/more\n  out/texts\n" in error


def test_an_unfinished_version_is_not_taken_for_foreign_tars():
    run()
    [manifest] = Path("out/texts").glob("????????/manifest.json")
    manifest.unlink()
    assert "no finished version" in omnicurate("show", "out/texts", code=1)
    assert "it is unfinished" in omnicurate("verify", str(manifest.parent), code=1)
    assert "5 samples in 2 shards: all well" in omnicurate("verify", str(manifest.parent / "shards"))


@pytest.mark.parametrize(("content", "message"), [("{}", "damaged"), ("{", "damaged"), ('{"format": 1}', "format 1;")])
def test_a_manifest_that_cannot_be_read_is_an_error(content, message):
    run()
    Path("out/texts/latest/manifest.json").write_text(content)
    assert message in omnicurate("show", "out/texts", code=1)
    Path("out/texts/latest/manifest.json").unlink()
    run()
    assert "all well" in omnicurate("verify", "out/texts")


def test_verify_checks_the_tar_of_a_damaged_index():
    run()
    cut("out/texts/latest/index/texts-000000.parquet")
    output = omnicurate("verify", "out/texts", code=1)
    assert output.splitlines() == [
        "index/texts-000000.parquet: its bytes are not what was published",
        "5 samples in 2 shards: 1 problem",
    ]
    cut("out/texts/latest/shards/texts-000000.tar")
    output = omnicurate("verify", "out/texts", code=1)
    assert "texts-000000.tar: its bytes are not what was published" in output
    assert "2 samples in 2 shards: 3 problems" in output
    assert "stated" not in output


def test_verify_and_stats_count_the_same_samples_of_a_broken_tar():
    with webdataset.TarWriter("a.tar") as sink:
        for i in range(9):
            sink.write({"__key__": f"s{i % 7}", "jpg": b"\xff\xd8" + bytes(900), "json": {"caption": f"cat {i}"}})
    raw = Path("a.tar").read_bytes()
    for size in range(0, len(raw), 700):
        Path("a.tar").write_bytes(raw[:size])
        counted = json.loads(omnicurate("stats", "a.tar", "--json"))["samples"]
        assert json.loads(omnicurate("verify", "a.tar", "--json", code=1))["samples"] == counted


def test_verify_goes_on_behind_a_compressed_tar():
    run()
    first, second = (Path(f"out/texts/latest/shards/texts-00000{i}.tar") for i in range(2))
    Path("tars").mkdir()
    for folder, whole, compressed in (("tars", Path("tars/b.tar"), Path("tars/a.tar")), ("out/texts", second, first)):
        whole.write_bytes(second.read_bytes())
        compressed.write_bytes(gzip.compress(first.read_bytes()))
        output = omnicurate("verify", folder, code=1)
        assert "compressed" in output
        assert "in 2 shards: 1 problem\n" in output


def test_ls_lists_damaged_and_unfinished_versions():
    run()
    [row] = json.loads(omnicurate("ls", "--json"))
    assert (row["dataset"], row["state"], row["latest"], row["samples"]) == ("out/texts", "published", True, 5)
    run(RECIPE.replace("odd", "uneven"))
    run(RECIPE.replace("odd", "not_even"))
    latest = Path("out/texts/latest").resolve().name
    damaged, unfinished = (folder for folder in Path("out/texts").glob("????????") if folder.name != latest)
    (damaged / "manifest.json").write_text("{")
    (unfinished / "manifest.json").unlink()
    rows = {row["version"]: row for row in json.loads(omnicurate("ls", "out/texts", "--json"))}
    assert len(rows) == 3
    assert {row["dataset"] for row in rows.values()} == {"out/texts"}
    assert rows[damaged.name]["state"] == "damaged"
    assert rows[unfinished.name]["state"] == "unfinished"
    output = omnicurate("ls")
    assert "damaged" in output
    assert "unfinished" in output


def test_gc_says_what_waits_for_its_grace_period():
    run()
    assert "unused" not in omnicurate("gc")
    run(RECIPE.replace("n % 2", "n % 3"))
    output = omnicurate("gc")
    assert output.startswith("would delete 0 objects")
    assert "are unused but younger than 24 hours" in output
    report = json.loads(omnicurate("gc", "--json"))
    deleted = json.loads(omnicurate("gc", "--json", "--grace", "0", "--delete"))
    assert len(deleted["garbage"]) == report["unused_in_grace"] > 0
    assert deleted["bytes"] == report["unused_in_grace_bytes"]


def test_gc_does_not_take_any_folder_for_a_store():
    Path("media").mkdir()
    Path("runs").mkdir()
    Path("media/mine.jpg").write_bytes(b"mine")
    for place in ("nowhere", "."):
        assert "there is no store with results at " in omnicurate(
            "gc", "--store", place, "--grace", "0", "--delete", code=1
        )
    assert Path("media/mine.jpg").exists()


def test_samples_without_a_licence_are_counted():
    rows = [{"text": "t", "n": 2 * i, **({"license": "CC0-1.0"} if i < 3 else {})} for i in range(10)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("r.yaml").write_text(RECIPE)
    assert "(no licence stated)" in omnicurate("run", "r.yaml", "--engine", "local")
    Path("r.yaml").write_text(RECIPE.replace("n: int", "n: int, license: string"))
    assert "(CC0-1.0 3, none stated 7)" in omnicurate("run", "r.yaml", "--engine", "local")
    assert "CC0-1.0 3, none stated 7\n" in omnicurate("stats", "out/texts").replace(" \n", "\n").replace("  ", "")


def test_starters_say_what_is_next():
    output = omnicurate("new", "recipe", "r.yaml")
    assert output == (
        "wrote r.yaml; next: put JSON lines with a text field into data/documents.jsonl, then omnicurate plan r.yaml\n"
    )
    Path("data").mkdir()
    Path("data/documents.jsonl").write_text(json.dumps({"text": "long enough for the filter"}))
    omnicurate("plan", "r.yaml")
    assert "next: omnicurate plan s.yaml" in omnicurate("new", "recipe", "s.yaml")
    assert "exists already" in omnicurate("new", "recipe", "s.yaml", code=1)


def test_a_starter_stage_names_its_own_module(tmp_path_factory):
    assert "`- loud_ones:Shout`" in omnicurate("new", "stage", "loud_ones.py")
    assert "`- loud_ones:Shout: {" in Path("loud_ones.py").read_text()
    Path("mine").mkdir()
    assert "`- mine.loud:Shout` uses it; commands must run in this folder" in omnicurate("new", "stage", "mine/loud.py")
    elsewhere = tmp_path_factory.mktemp("else-where")
    output = omnicurate("new", "stage", str(elsewhere / "loud.py"))
    assert f"`- loud:Shout` uses it; commands must run in {elsewhere}\n" in output


@pytest.mark.parametrize("name", ["my-stage.py", "2nd.py", "stage", "stage.txt", "class.py", "__main__.py"])
def test_a_stage_file_that_cannot_be_imported_is_refused(name):
    assert "cannot be imported" in omnicurate("new", "stage", name, code=1)
    assert not Path(name).exists()


def test_a_stage_file_that_another_module_hides_is_refused():
    assert "json is the name of another module" in omnicurate("new", "stage", "json.py", code=1)
    assert not Path("json.py").exists()


def test_an_unknown_run_names_the_newest_ones():
    run()
    template = json.loads(next(Path(".omnicurate/runs").glob("*/state.json")).read_text())
    for i in range(7):
        folder = Path(f".omnicurate/runs/2999010{i}-000000-1")
        folder.mkdir()
        (folder / "state.json").write_text(json.dumps({**template, "id": folder.name}))
    lines = omnicurate("status", "20260101", code=1).splitlines()
    assert lines[0].startswith("error: there is no run '20260101'")
    assert lines[2:] == [f"  2999010{i}-000000-1" for i in (6, 5, 4, 3, 2)]
