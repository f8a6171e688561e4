"""Mixtures from beginning to end: published data sets in, a new version out."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.inspect.dataset import open_dataset
from pipelines.inspect.verify import verify

SOURCE = """\
flows:
  {name}:
    - ingest.jsonl: {{path: {name}.jsonl, id: id, media: {{image: file}}, unit: 20}}
outputs:
  {name}: {{pack: {name}, to: out/{name}, shard: {{samples: 40}}}}
"""
MIX = """\
seed: 3
flows:
  photos: [ingest.dataset: {path: out/photos}]
  facts:
    - ingest.dataset: {path: out/facts}
    - text.split: {as: plain, text: text}
  sft:
    - mix: {sources: {photos: {weight: 0.75}, facts: {weight: 0.25, epochs: 2}}, total: 80}
outputs:
  sft: {pack: sft, to: out/sft, shard: {samples: 30}}
"""


def run(*arguments, code=0):
    """Run a command; what it printed."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.output


def report(*arguments):
    return json.loads(run(*arguments, "--engine", "local", "--json"))


def samples(folder):
    """Key -> extension -> bytes, in order."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(Path(folder, "shards").iterdir()):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                found.setdefault(key, {})[extension] = tar.extractfile(member).read()
    return found


def tree(folder):
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Two data sets with equal local ids, one of them with media that are longer than what is read at once."""
    folder = tmp_path_factory.mktemp("published")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for name, count in (("photos", 100), ("facts", 15)):
            Path(name).mkdir()
            with open(f"{name}.jsonl", "w") as file:
                for i in range(count):
                    size = 70_000 if i % 10 == 0 else 50 + i
                    Path(name, f"{i}.jpg").write_bytes(bytes([i]) * size)
                    row = {"id": f"x{i}", "file": f"{name}/{i}.jpg", "text": f"  {name}  {i}", "task": f"t{i % 3}"}
                    file.write(json.dumps(row) + "\n")
            Path(f"{name}.yaml").write_text(SOURCE.format(name=name))
            run("run", f"{name}.yaml", "--engine", "local")
        Path("mix.yaml").write_text(MIX)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(published, tmp_path, monkeypatch):
    """A copy of the published data sets, and the recipe of the mixture."""
    shutil.copytree(published / "out", tmp_path / "out", symlinks=True)
    shutil.copy(published / "mix.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_mixture(here):
    [output] = report("mix", "mix.yaml")["outputs"]
    assert output["mixtures"] == {
        "sft": [
            {"source": "photos", "size": 100, "wanted": 60, "taken": 60, "short": 0},
            {"source": "facts", "size": 15, "wanted": 20, "taken": 20, "short": 0},
        ]
    }
    found = samples(here / "out/sft/latest")
    assert len(found) == 80
    assert sum(key.startswith("photos/") for key in found) == 60
    repeated = [key for key in found if key.endswith("~2")]
    assert len(repeated) == 5
    assert {key.split("/")[0] for key in repeated} == {"facts"}
    photos, facts = (samples(here / f"out/{name}/latest") for name in ("photos", "facts"))
    for key, members in found.items():
        original = (photos if key.startswith("photos/") else facts)[key.removesuffix("~2").removesuffix("-0000")]
        assert members["jpg"] == original["jpg"]
        assert json.loads(members["json"])["key"] == key
    texts = [json.loads(members["json"])["text"] for key, members in found.items() if "facts" in key]
    assert all(text.startswith("facts ") for text in texts)  # records are written anew: a step has trimmed the text
    sources = [key.split("/")[0] for key in found]
    assert sources != sorted(sources)  # they are shuffled together
    assert sources != sorted(sources, reverse=True)
    assert verify(open_dataset("out/sft")) == ({"shards": 3, "samples": 80}, [])


def test_the_same_bytes_on_any_number_of_workers_and_in_another_store(here):
    run("mix", "mix.yaml", "--engine", "local")
    expected = tree(here / "out/sft")
    for arguments in (("--engine", "local"), ("--workers", "1"), ("--workers", "3")):
        shutil.rmtree(here / "out/sft")
        shutil.rmtree(here / ".omnicurate")
        run("mix", "mix.yaml", *arguments)
        assert tree(here / "out/sft") == expected


def test_other_weights_and_seeds(here):
    first = report("mix", "mix.yaml")["outputs"][0]
    again = report("mix", "mix.yaml")
    assert again["outputs"][0]["path"] == first["path"]
    assert again["work"]["reused"] == again["work"]["jobs"]
    seeded = report("mix", "mix.yaml", "--seed", "4")["outputs"][0]
    assert seeded["path"] != first["path"]
    other = report("mix", "mix.yaml", "--set", "sources.facts.weight=0.05", "--set", "flows.sft.mix.total=60")
    assert [share["taken"] for share in other["outputs"][0]["mixtures"]["sft"]] == [56, 4]
    assert (
        json.loads(Path("out/sft/latest/manifest.json").read_text())["recipe"]["flows"]["sft"][0]["mix"]["total"] == 60
    )
    # A smaller share of a source is a part of a larger one.
    before, after = (set(samples(output["path"])) for output in (first, other["outputs"][0]))
    assert {key for key in after if key.startswith("photos/")} < {key for key in before if key.startswith("photos/")}


def test_a_source_that_is_too_small(here):
    text = run("mix", "mix.yaml", "--engine", "local", "--set", "sources.facts.weight=1")
    assert "facts is too small for its weight: 16 were taken from others instead" in text
    [output] = report("mix", "mix.yaml", "--set", "sources.facts.weight=1")["outputs"]
    assert [share["taken"] for share in output["mixtures"]["sft"]] == [50, 30]
    run("report", "out/sft", "-o", "report.html")
    assert "facts · 2.00 x 15 · 16 too few" in Path("report.html").read_text()
    done = CliRunner().invoke(app, ["mix", "mix.yaml", "--engine", "local", "--set", "total=131"])
    assert done.exit_code == 1
    assert "wants 131 samples, but its sources can give 130 at most" in done.output
    assert "photos 100, facts 30" in done.output


def test_what_is_not_taken_is_counted(here):
    report("mix", "mix.yaml")
    manifest = json.loads(Path("out/sft/latest/manifest.json").read_text())
    [step] = [step for step in manifest["steps"] if step["use"] == "mix"]
    assert (step["read"], step["kept"], step["left"], step["repeated"]) == (115, 80, 40, 5)
    assert manifest["rejected"] == 0


def test_lineage(here):
    report("mix", "mix.yaml")
    tables = [pq.read_table(path, columns=["key", "lineage"]) for path in Path("out/sft/latest/index").iterdir()]
    rows = {key: lineage for table in tables for key, lineage in zip(*table.to_pydict().values(), strict=True)}
    versions = {name: f"{name}/{Path('out', name, 'latest').resolve().name}" for name in ("photos", "facts")}
    for key, lineage in rows.items():
        name, local = key.split("/")
        original = f"{name}/{local.split('-')[0]}"
        expected = [{"step": None, "key": original, "dataset": versions[name]}]
        if name == "facts":
            expected.append({"step": "plain", "key": original, "dataset": None})
        if key.endswith("~2"):
            expected.append({"step": "mix", "key": key.removesuffix("~2"), "dataset": None})
        assert lineage == expected


def test_a_version_is_taken_as_it_is_when_the_run_starts(here):
    report("mix", "mix.yaml")
    before = tree(here / "out/sft/latest/")
    shutil.copy(here / "out/facts/latest/manifest.json", here / "manifest.json")
    (here / "out/facts/latest/manifest.json").unlink()
    assert "facts" in run("mix", "mix.yaml", "--engine", "local", code=2)
    shutil.copy(here / "manifest.json", here / "out/facts/latest/manifest.json")
    shutil.rmtree(here / "out/sft")
    report("mix", "mix.yaml")
    assert tree(here / "out/sft/latest/") == before


def test_a_mixture_of_a_mixture_has_as_many_samples_as_it_says(here):
    report("mix", "mix.yaml")
    Path("again.yaml").write_text(
        "flows: {sft: [ingest.dataset: {path: out/sft}], again: [mix: {sources: {sft: {epochs: 2}}, total: 150}]}\n"
        "outputs: {again: {pack: again, to: out/again}}\n"
    )
    [output] = report("mix", "again.yaml")["outputs"]
    assert (output["samples"], output["rejected"]) == (150, 0)
    keys = list(samples("out/again/latest"))
    assert any(key.endswith("~2~1") for key in keys)
    assert any(key.endswith("~2~2") for key in keys)


def test_an_empty_source_is_reported(here):
    settings = ("--set", "flows.facts=[ingest.dataset: {path: out/facts}, filter.where: {sql: 'false'}]")
    text = run("mix", "mix.yaml", "--engine", "local", *settings)
    assert "facts is too small for its weight: 20 were taken from others instead" in text
    [output] = report("mix", "mix.yaml", *settings)["outputs"]
    assert [share["taken"] for share in output["mixtures"]["sft"]] == [80, 0]


def test_floors_above_the_total(here):
    done = CliRunner().invoke(app, ["mix", "mix.yaml", "--engine", "local", "--set", "strata={by: task, floor: 25}"])
    assert done.exit_code == 1
    assert "wants 80 samples, but its floors ask for 105" in done.output


def test_shards_that_are_gone_or_short_are_noticed_before_anything_runs(here):
    shard = next(Path("out/photos/latest/shards").resolve().iterdir())
    data = shard.read_bytes()
    shard.write_bytes(data[:-512])
    assert f"{shard} is missing, or not of the size" in run("mix", "mix.yaml", code=2)
    shard.unlink()
    assert f"{shard} is missing, or not of the size" in run("mix", "mix.yaml", code=2)
    shard.write_bytes(data)
    index = next(Path("out/photos/latest/index").resolve().iterdir())
    index.write_bytes(index.read_bytes()[:400])
    assert "the index of" in run("mix", "mix.yaml", code=2)
    index.unlink()
    assert f"{index} is missing" in run("mix", "mix.yaml", code=2)


def test_a_seed_of_the_step_gives_way_to_the_command(here):
    paths = {report("mix", "mix.yaml", "--set", "seed=9", "--seed", str(seed))["outputs"][0]["path"] for seed in (5, 6)}
    found = [set(samples(path)) for path in paths]
    assert found[0] != found[1]
    Path("own.yaml").write_text(Path("mix.yaml").read_text().replace("total: 80", "total: 80, seed: 1"))
    paths = [report("mix", "own.yaml", "--seed", str(seed))["outputs"][0]["path"] for seed in (5, 6)]
    assert set(samples(paths[0])) != set(samples(paths[1]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sources.fact.weight=1", "there is no 'fact'.*did you mean 'facts'"),
        ("sources.facts.wieght=1", r"mix.yaml:8:\d+: unknown key 'wieght'\s+did you mean 'weight'"),
        ("outputs.sft.shard.samples.x=1", "'x' leads nowhere"),
        ("flows.sft.mox.total=1", "'mox' leads nowhere"),
        ("flows.facts.text.split.text=plain", "no step before text.split writes the column .plain."),
        ("sourcs.facts=1", "did you mean 'sources'"),
        ("total=[", "is not a YAML value"),
        ("total", "expected PATH=VALUE"),
        ("total=-1", r"mix.yaml:8:\d+: total: input should be greater"),
        ("flows.sft=[from: facts]", "no output of the recipe comes from a `mix` step"),
        ("strata={by: tusk}", "has no column 'tusk'"),
        ("by=text", "has no column 'text' of whole numbers"),
    ],
)
def test_settings_that_are_wrong(here, setting, message):
    done = CliRunner().invoke(app, ["mix", "mix.yaml", "--engine", "local", "--set", setting])
    assert done.exit_code == 2, done.output
    assert re.search(message, done.output.replace("\n", " ")), done.output


def test_drawing_from_a_foreign_stream_is_the_same_as_from_our_index(here):
    """A tar of ours read as any WebDataset tar gives the same bytes of media."""
    Path("tars.yaml").write_text(
        "flows: {all: [ingest.webdataset: {path: out/photos/latest/shards, source: photos}], "
        "sft: [mix: {sources: {all: }, total: 10}]}\noutputs: {sft: {pack: sft, to: out/tars}}\n"
    )
    report("mix", "tars.yaml")
    found = samples(here / "out/tars/latest")
    photos = samples(here / "out/photos/latest")
    assert len(found) == 10
    for key, members in found.items():
        assert members["jpg"] == photos[key.removeprefix("all/photos/")]["jpg"]
