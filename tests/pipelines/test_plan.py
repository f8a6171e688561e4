"""A wrong recipe is refused before anything runs, with its place and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.plan import make_plan
from schemas.errors import RecipeError

GOOD = """\
seed: 7
store: store
models:
  adder: {use: "tests.toys:Adder", add: 5}
flows:
  numbers:
    - tests.toys:Numbers: {root: in}
    - tests.toys:Square: {as: sq, bad: 7}
    - filter.where: {sql: "sq.value > 10"}
    - tests.toys:AddBatch: {as: added, model: adder}
outputs:
  numbers: {pack: numbers, to: out/numbers, record: [n, sq.value]}
"""


@pytest.fixture(autouse=True)
def _inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.txt").write_text("5")


def refused(old: str, new: str) -> str:
    assert old in GOOD
    with pytest.raises(RecipeError) as caught:
        make_plan("r.yaml", GOOD.replace(old, new))
    assert not Path("store").exists(), "a refused recipe must leave no trace"
    return str(caught.value)


def test_a_good_recipe_is_cut_into_segments():
    plan = make_plan("r.yaml", GOOD)
    assert [(node.kind, [step.name for step in node.steps]) for node in plan.nodes] == [
        ("source", ["Numbers"]),
        ("rows", ["sq", "where"]),
        ("batch", ["added"]),
        ("pack", []),
    ]
    assert str(plan.nodes[-1].types["sq"]) == "struct<value: int64>"


@pytest.mark.parametrize(
    ("old", "new", "where", "hints"),
    [
        ("seed: 7", "sed: 7", "r.yaml:1:1", ["unknown key 'sed'", "did you mean 'seed'"]),
        ("seed: 7", "seed: seven", "r.yaml:1:7", ["seed", "integer", "'seven'"]),
        ("bad: 7", "bda: 7", "r.yaml:8:35", ["unknown key 'bda'", "did you mean 'bad'"]),
        ("bad: 7", "bad: x", "r.yaml:8:40", ["bad", "'x'"]),
        ("filter.where", "filter.wher", "r.yaml:9:7", ["no stage 'filter.wher'", "did you mean 'filter.where'"]),
        ("tests.toys:Square", "tests.toys:Sqare", "r.yaml:8:7", ["tests.toys:Sqare is not a stage"]),
        ("tests.toys:Square", "tests.nowhere:Square", "r.yaml:8:7", ["cannot import 'tests.nowhere'"]),
        ("sq.value > 10", "sq.valu > 10", "r.yaml:9:27", ["sq.valu", "sq.value"]),
        ("sq.value > 10", "sq.value >", "r.yaml:9:27", ["syntax"]),
        ("sq.value > 10", "sq.value", "r.yaml:9:27", ["must say true or false", "BIGINT"]),
        ("model: adder", "model: addr", "r.yaml:10:47", ["no model 'addr'", "did you mean 'adder'"]),
        ("pack: numbers", "pack: number", "r.yaml:12:19", ["no flow 'number'", "did you mean 'numbers'"]),
        ("record: [n,", "record: [m,", "r.yaml:12:54", ["no column 'm'"]),
        ("to: out/numbers,", "", "r.yaml:12:3", ["'to' is missing"]),
        ("add: 5", "add: 5, ad: 6", "r.yaml:4:44", ["unknown key 'ad'"]),
        ('{use: "tests.toys:Adder", add: 5}', "{add: 5}", "r.yaml:4:3", ["does not say what it uses"]),
        ("- tests.toys:Numbers: {root: in}", "- from: numbers", "r.yaml:7:7", ["cycle: numbers -> numbers"]),
        ("- tests.toys:Numbers: {root: in}", "- select.shuffle", "r.yaml:7:7", ["begins with 'select.shuffle'"]),
        ("{as: added,", "{as: sq,", "r.yaml:10:7", ["two steps write the column 'sq'"]),
        ("{as: added,", "{as: text,", "r.yaml:10:7", ["text"]),
        ("    - tests.toys:Square: {as: sq, bad: 7}\n", "", "r.yaml:8:27", ["sq"]),
        ("seed: 7", "seed: [7", "r.yaml:2:6", ["not valid YAML"]),
        ("seed: 7", "seed: 7\nseed: 8", "r.yaml:2:1", ["'seed' stands here twice"]),
        ("{as: sq, bad: 7}", "{on: 7}", "r.yaml:8:27", ["unknown key True"]),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(old, new, where, hints):
    message = refused(old, new)
    assert message.startswith(f"{where}: "), message
    for hint in hints:
        assert hint in message


def test_a_column_nobody_writes_is_named_at_the_step_that_reads_it():
    text = GOOD.replace("tests.toys:Numbers: {root: in}", "ingest.jsonl: {path: a.jsonl}")
    Path("a.jsonl").write_text('{"m": 1}\n')
    with pytest.raises(RecipeError, match=r"r.yaml:8:7: no step before tests.toys:Square writes the column 'n'"):
        make_plan("r.yaml", text)


def test_a_column_of_another_type_is_refused():
    text = GOOD.replace("tests.toys:Numbers: {root: in}", "ingest.jsonl: {path: a.jsonl}")
    Path("a.jsonl").write_text('{"n": "one", "text": "t"}\n')
    with pytest.raises(RecipeError, match=r"needs n as int64, but it is string"):
        make_plan("r.yaml", text)


def test_a_missing_file_is_refused():
    text = GOOD.replace("tests.toys:Numbers: {root: in}", "ingest.jsonl: {path: nowhere.jsonl}")
    with pytest.raises(RecipeError, match=r"r.yaml:7:7: .*nowhere.jsonl"):
        make_plan("r.yaml", text)


def test_a_missing_extra_is_named(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "soundfile" else real(name, *a))
    text = GOOD.replace("tests.toys:Numbers: {root: in}", "ingest.files: {root: in}").replace(
        "tests.toys:Square: {as: sq, bad: 7}", "audio.probe: {part: audio}"
    )
    with pytest.raises(RecipeError, match=r"r.yaml:8:7: .*soundfile") as caught:
        make_plan("r.yaml", text)
    assert "pip install 'omnicurate[audio]'" in str(caught.value)


def test_unions_and_joins_are_checked():
    flows = """\
flows:
  a:
    - tests.toys:Numbers: {root: in}
  b:
    - tests.toys:Numbers: {root: in}
    - select.rename: {columns: {n: text}}
  both:
    - union: [a, b]
"""
    with pytest.raises(RecipeError, match=r"r.yaml:8:7: .*column n is int64 in one input and string in another"):
        make_plan("r.yaml", flows)


def test_a_missing_recipe_says_how_to_begin():
    with pytest.raises(RecipeError, match="omnicurate new recipe"):
        make_plan("nowhere.yaml")
