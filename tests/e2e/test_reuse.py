"""What runs find again, recompute and refuse; everything here runs in one process (`--engine local`)."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.harness import RECIPE, Work, check_conservation, wait_until

LOGGED = RECIPE.replace("bad: 7, ms: 3", "bad: 7, log: squares.log").replace("adder, ms: 3", "adder, log: sums.log")
LOCAL = ("--engine", "local")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A small folder whose slow toys log what they do."""
    return Work(tmp_path / "work", files=3, rows=30, recipe=LOGGED)


def logged(work: Work, name: str) -> list[str]:
    """What a toy has done since it was last asked."""
    path = work.folder / name
    lines = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def fresh_tree(work: Work, recipe: str | None = None) -> dict[str, str]:
    """What the same folder's inputs give in a fresh store."""
    other = Work(work.folder.with_name("fresh"), files=0, recipe=recipe or (work.folder / "recipe.yaml").read_text())
    shutil.copytree(work.folder / "in", other.folder / "in", dirs_exist_ok=True)
    other.run(*LOCAL)
    return other.tree()


def version_tree(work: Work) -> dict[str, str]:
    """The newest version alone, and `latest`."""
    name = work.latest.name
    return {path: digest for path, digest in work.tree().items() if path.split("/")[0] in (name, "latest")}


def test_a_file_that_is_appended_only_adds_units(work: Work) -> None:
    work.run(*LOCAL)
    assert len(logged(work, "squares.log")) == 90
    work.add_input("f9.txt")
    work.run(*LOCAL)
    assert {line.split("/")[1] for line in logged(work, "squares.log")} == {"f9%2Etxt"}
    check_conservation(work)
    assert version_tree(work) == fresh_tree(work)


def test_a_light_step_ahead_of_a_model_recomputes_nothing_of_it(work: Work) -> None:
    work.run(*LOCAL)
    logged(work, "squares.log"), logged(work, "sums.log")
    recipe = LOGGED.replace("    - toys:AddBatch", '    - toys:Mark: {as: mark, log: "marks.log"}\n    - toys:AddBatch')
    work.write(recipe)
    work.run(*LOCAL)
    assert len(logged(work, "marks.log")) == 90 - 15
    assert logged(work, "sums.log") == []
    check_conservation(work)
    assert version_tree(work) == fresh_tree(work)


def test_an_option_recomputes_only_what_depends_on_it(work: Work) -> None:
    work.run(*LOCAL)
    logged(work, "squares.log"), logged(work, "sums.log")
    for change in (("add: 5", "add: 6"), ("child < 2", "child < 1"), ("samples: 40", "samples: 25")):
        work.write((work.folder / "recipe.yaml").read_text().replace(*change))
        work.run(*LOCAL)
        assert logged(work, "squares.log") == []
        assert bool(logged(work, "sums.log")) == (change[1] == "add: 6")
        check_conservation(work)
        assert version_tree(work) == fresh_tree(work)
        shutil.rmtree(work.folder.with_name("fresh"))


def test_inputs_that_are_all_rejected_are_in_the_published_rejects(work: Work) -> None:
    """What is kept stays the same then; the version must be another one all the same."""
    work.run(*LOCAL)
    before = work.latest
    (work.folder / "in" / "f9.txt").write_text("1")  # its only row is 0, which is rejected
    work.run(*LOCAL)
    check_conservation(work)
    assert work.latest != before
    assert "all/f9%2Etxt/0" in [key for _, _, key in work.rejected()]


@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_lacks_commits_is_refilled(work: Work, seed: int) -> None:
    work.run(*LOCAL)
    commits, tree = work.commits(), work.tree()
    rng = random.Random(seed)
    for path in rng.sample(commits, len(commits) * (1, 2, 3)[seed] // 3):
        path.unlink()
    media = sorted((work.folder / "store" / "media").iterdir())
    for path in media if seed else []:
        path.unlink()
    if seed != 1:
        shutil.rmtree(work.out)
    work.run(*LOCAL)
    assert work.tree() == tree
    if seed == 2:
        assert work.commits() == commits
    work.write((work.folder / "recipe.yaml").read_text().replace("add: 5", "add: 6"))
    work.run(*LOCAL)
    check_conservation(work)
    assert version_tree(work) == fresh_tree(work)


def test_each_kind_of_commit_can_be_lost(tmp_path: Path) -> None:
    work = Work(tmp_path / "work", files=1, rows=10, recipe=LOGGED)
    work.run(*LOCAL)
    tree = work.tree()
    for path in work.commits():
        path.unlink()
        shutil.rmtree(work.out)
        work.run(*LOCAL)
        assert work.tree() == tree


def test_removed_published_files_come_back(work: Work) -> None:
    work.run(*LOCAL)
    tree = work.tree()
    removed = ("000001.tar", "000000.parquet", "manifest.json", "square.parquet")
    for name in tree:
        if name.endswith(removed):
            (work.out / name).unlink()
    (work.out / "latest").unlink()
    work.run(*LOCAL)
    assert work.tree() == tree
    assert "all well" in work.run("out/all", command="verify")


def test_gc_deletes_garbage_only(work: Work) -> None:
    work.run(*LOCAL)
    work.write(LOGGED.replace("add: 5", "add: 6").replace("bad: 7", "bad: 5"))
    work.run(*LOCAL)
    tree = work.tree()
    kept = work.json("--store", "store", "--grace", "0", command="gc")
    assert kept["garbage"]
    work.run("--store", "store", "--grace", "0", "--delete", command="gc")
    left = work.json("--store", "store", "--grace", "0", command="gc")
    assert left["garbage"] == []
    logged(work, "squares.log"), logged(work, "sums.log")
    work_done = work.json(*LOCAL)["work"]
    assert work_done["jobs"] == work_done["reused"]
    assert work.tree() == tree
    (work.out / work.latest / "shards" / "all-000000.tar").unlink()
    work.run(*LOCAL)
    assert work.tree() == tree
    assert logged(work, "squares.log") == []


def test_old_leftovers_beside_the_versions_go(work: Work) -> None:
    work.run(*LOCAL)
    (work.out / ".tmp").mkdir(exist_ok=True)
    for name in ("new", "old"):
        (work.out / ".tmp" / name).write_text("half a shard")
    os.utime(work.out / ".tmp" / "old", (1_700_000_000, 1_700_000_000))
    work.run(*LOCAL)
    assert os.listdir(work.out / ".tmp") == ["new"]


def test_limit_does_not_move_latest(work: Work) -> None:
    assert work.json(*LOCAL, "--limit", "25")["outputs"][0]["samples"] > 0
    assert not (work.out / "latest").exists()
    work.run(*LOCAL)
    latest, tree = work.latest, version_tree(work)
    trial = work.json(*LOCAL, "--limit", "25")["outputs"][0]
    assert work.latest == latest
    assert Path(trial["path"]).name != latest.name
    assert version_tree(work) == tree == fresh_tree(work)


def test_the_error_budget_stops_a_run(work: Work) -> None:
    recipe = RECIPE.replace("toys:Square: {as: square, bad: 7, ms: 3}", "toys:Picky").replace("child < 2", "child < 3")
    work.write(recipe + "errors: {at_least: 10}\n")
    said = work.run(*LOCAL, code=1)
    assert "lost" in said
    assert not (work.out / "latest").exists()
    work.write(recipe + "errors: {at_least: 10, share: 0.5}\n")
    work.run(*LOCAL)
    reasons = Counter(reason for step, reason, _ in work.rejected() if step == "Picky")
    assert sum(reasons.values()) == 3 * 9
    assert reasons["error"] == 9


def test_a_poison_sample_costs_only_itself(tmp_path: Path) -> None:
    work = Work(tmp_path / "work", files=1, rows=40, recipe=RECIPE.replace("adder, ms: 3", "adder, poison: 31"))
    work.run(*LOCAL)
    assert [row for row in work.rejected() if row[0] == "sum"] == [("sum", "error", "all/f0%2Etxt/31")]
    check_conservation(work, lost=("all/f0%2Etxt/31",))


def test_empty_input_fails_loudly(tmp_path: Path) -> None:
    empty = Work(tmp_path / "none", files=0)
    assert "no input" in empty.run(*LOCAL, code=1)
    zero = Work(tmp_path / "zero", files=2, rows=0)
    assert "no sample is left" in zero.run(*LOCAL, code=1)
    assert not zero.out.exists() or not zero.tree()


MEDIA = """\
store: store
flows:
  all:
    - ingest.files: {root: in}
outputs:
  all: {pack: all, to: out/all}
"""


def test_media_that_change_are_ingested_anew(tmp_path: Path) -> None:
    work = Work(tmp_path / "work", files=0, recipe=MEDIA)
    for name in ("a", "b"):
        (work.folder / "in" / f"{name}.jpg").write_bytes(name.encode() * 100)
    work.run(*LOCAL)
    first = work.latest
    (work.folder / "in" / "b.jpg").write_bytes(b"c" * 120)
    work.run(*LOCAL)
    assert work.latest != first
    assert "all well" in work.run("out/all", command="verify")
    assert b"c" * 120 in (work.latest / "shards" / "all-000000.tar").read_bytes()
    (work.folder / "in" / "a.jpg").unlink()
    work.run(*LOCAL)
    assert work.kept() == ["all/b"]


def test_media_that_change_behind_a_list_stop_the_run(tmp_path: Path) -> None:
    """What is published stays; what has to be packed anew says which file changed, and what to do."""
    source = "ingest.jsonl: {path: in/list.jsonl, id: id, media: {image: f}}"
    work = Work(tmp_path / "work", files=0, recipe=MEDIA.replace("ingest.files: {root: in}", source))
    for name in ("a", "b"):
        (work.folder / "in" / f"{name}.jpg").write_bytes(name.encode() * 100)
    (work.folder / "in" / "list.jsonl").write_text('{"id": "a", "f": "a.jpg"}\n{"id": "b", "f": "b.jpg"}\n')
    work.run(*LOCAL)
    tree = work.tree()
    (work.folder / "in" / "b.jpg").write_bytes(b"c" * 120)
    work.run(*LOCAL)
    assert work.tree() == tree
    work.write((work.folder / "recipe.yaml").read_text().replace("out/all", "out/all, shard: {samples: 1}"))
    said = work.run(*LOCAL, code=1)
    assert "b.jpg is not what it was when it was indexed (media_changed)" in said
    assert "touch the file that lists it" in said
    os.utime(work.folder / "in" / "list.jsonl", (1_700_000_000, 1_700_000_000))
    work.run(*LOCAL)
    assert b"c" * 120 in (work.latest / "shards" / "all-000001.tar").read_bytes()


def test_status_logs_and_cancel_of_a_detached_run(tmp_path: Path) -> None:
    work = Work(tmp_path / "work", files=2, recipe=RECIPE.replace("bad: 7, ms: 3", "bad: 7, ms: 100"))
    store = ("--store", "store")
    name = work.json("--detach")["run"]
    assert work.json(name, *store, command="status")["outcome"] == "running"
    wait_until(lambda: work.progress() > 2, 60, "the run to get somewhere")
    assert "commit" in work.run(name, *store, command="logs")
    work.run(name, *store, command="cancel")
    wait_until(lambda: work.json(*store, command="status")["outcome"] != "running", 30, "the end")
    assert work.json(*store, command="status")["outcome"] == "cancelled"
    assert "not running" in work.run(name, *store, command="cancel", code=1)
    assert not (work.out / "latest").exists()
    work.write(RECIPE.replace("bad: 7, ms: 3", "bad: 7, ms: 100"))
    work.run(*LOCAL)
    check_conservation(work)
