"""Ordinary mistakes in stages and recipes: one clear message each, before the work where that can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.plan import make_plan
from schemas.errors import RecipeError

STAGE = '''\
import sys
import pyarrow as pa
from schemas.columns import Columns
from stages.base import Map, New, Reject, options

@options
class Mine(Map):
    """A stage with a mistake."""

    def reads(self):
        return Columns({"n": pa.int64()})

    def writes(self):
        return Columns({"m": pa.int64()})

    def each(self, sample):
        BODY
'''
RECIPE = """\
flows:
  a:
    - ingest.jsonl: {path: in.jsonl, columns: {n: int}}
    - NAME:Mine: {as: mine}
outputs:
  a: {pack: a, to: out/a}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("in.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(30)))


def run(name: str, source: str, recipe: str = RECIPE) -> tuple[int, str]:
    Path(f"{name}.py").write_text(source)  # a name of its own for each test: modules are imported once
    Path("r.yaml").write_text(recipe.replace("NAME", name))
    result = CliRunner().invoke(app, ["run", "r.yaml", "--engine", "local"])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("forgot_return", "pass", "returned NoneType for a sample\n  return New(…), KEEP or Reject(…)"),
        ("undeclared", 'return New({"o": 1})', "wrote the column 'o' that it does not declare"),
        ("unread", 'return New({"m": sample["k"]})', "read the column 'k' that it does not declare"),
        ("reason", 'return Reject("odd")', "gave the reason 'odd' that it does not declare"),
        ("raises", "raise ValueError('boom')", "lost 30 of 30 samples to errors, the first to ValueError: boom"),
        ("exits", "sys.exit(3)", "lost 30 of 30 samples to errors, the first to SystemExit: 3"),
    ],
)
def test_a_broken_contract_stops_the_run_with_one_message(name, body, expected):
    code, output = run(name, STAGE.replace("BODY", body))
    assert code == 1
    assert expected in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("undecorated", STAGE.replace("@options\n", ""), "put @options"),
        ("syntax", STAGE.replace("class Mine", "klass Mine"), "SyntaxError"),
        ("needs", "import not_there_at_all\n" + STAGE, "needs the package not_there_at_all"),
        ("dictionary", STAGE.replace('Columns({"n": pa.int64()})', '{"n": 1}'), "must return Columns, not dict"),
    ],
)
def test_a_stage_that_cannot_be_used_is_refused_at_its_step(name, source, expected):
    code, output = run(name, source.replace("BODY", "pass"))
    assert code == 2
    assert "r.yaml:4:7: " in output
    assert expected in output
    assert "Traceback" not in output


def test_a_few_errors_are_said_on_the_screen():
    body = "return New({'m': 1 // sample['n']})"
    code, output = run("few", STAGE.replace("BODY", body))
    assert code == 0
    assert "a.mine lost 1 samples to errors, the first to ZeroDivisionError" in output


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("to: out/a", "to: in.jsonl/a", "r.yaml:5:20: the output 'a' cannot be written: "),
        ("flows:", "store: in.jsonl\nflows:", "r.yaml:1:8: the store cannot be written: "),
        ("flows:", 'store: ""\nflows:', "r.yaml:1:8: store"),
        ("flows:", "flow:", "r.yaml:1:1: unknown key 'flow'\n  did you mean 'flows'?"),
    ],
)
def test_places_and_keys_are_checked_before_the_work(old, new, expected):
    recipe = RECIPE.replace("    - NAME:Mine: {as: mine}\n", "").replace(old, new)
    with pytest.raises(RecipeError) as caught:
        make_plan("r.yaml", recipe)
    assert str(caught.value).startswith(expected)


def test_a_flow_that_no_output_uses_is_said_and_not_run():
    recipe = RECIPE.replace("outputs:", "  idle:\n    - from: a\n    - select.shuffle\noutputs:")
    code, output = run("idle_stage", STAGE.replace("BODY", "return New({'m': 1})"), recipe)
    assert code == 0
    assert "the flow 'idle' is used by no output and is not run" in output
    assert [node.name for node in make_plan("r.yaml").nodes] == ["a: jsonl", "a: mine", "a: pack"]
