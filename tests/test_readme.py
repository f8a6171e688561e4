"""The README's own words, run as they stand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from pipelines.plan import make_plan

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    [found] = re.findall(rf"```\w+\n# {re.escape(name)}\n(.*?)```", README, re.DOTALL)
    return found


def test_your_own_stage_in_15_minutes(tmp_path):
    for name in ("my_stages.py", "my_recipe.yaml"):
        (tmp_path / name).write_text(block(name))
    letters = ["A short one. And another.", "This letter goes on and on " * 5, "Well done!"]
    (tmp_path / "letters.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in letters))

    def omnicurate(*arguments: str) -> str:
        command = Path(sys.executable).with_name("omnicurate")  # as installed: the current folder is not on its path
        done = subprocess.run([command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "readability" in omnicurate("plan", "my_recipe.yaml")
    report = json.loads(omnicurate("run", "my_recipe.yaml", "--json"))
    assert report["outputs"][0]["samples"] == 2
    assert report["outputs"][0]["steps"][1]["rejected"] == {"long_sentences": 1}
    assert "long_sentences" in omnicurate("show", "out/letters", "--rejects")
    sys.path.insert(0, str(tmp_path))
    try:
        from my_stages import Readability

        from schemas.sample import Sample

        assert Readability().each(Sample("k", {"text": ["One. Two."]})).columns == {"words_per_sentence": 1.0}
    finally:
        sys.path.remove(str(tmp_path))


def test_editing_the_stage_makes_its_results_new(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "my_recipe.yaml").write_text(block("my_recipe.yaml"))
    digests = []
    for source in (block("my_stages.py"), block("my_stages.py") + "\n# changed\n"):
        (tmp_path / "my_stages.py").write_text(source)
        code = "from pipelines.plan import make_plan; print(make_plan('my_recipe.yaml').nodes[1].steps[0].spec)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        digests.append(done.stdout)
    assert digests[0] != digests[1]


def test_the_starters_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind, name in (("recipe", "recipe.yaml"), ("stage", "my_stage.py")):
        subprocess.run([sys.executable, "-m", "omnicurate", "new", kind, name], check=True, capture_output=True)
    Path("data").mkdir()
    Path("data/documents.jsonl").write_text('{"text": "long enough to be kept here"}\n')
    assert [node.kind for node in make_plan("recipe.yaml").nodes] == ["source", "rows", "pack"]
    monkeypatch.syspath_prepend(tmp_path)
    text = Path("recipe.yaml").read_text().replace("- select.shuffle", '- my_stage:Shout: {mark: "!"}')
    assert "Shout" in make_plan("recipe.yaml", text).nodes[1].name


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
