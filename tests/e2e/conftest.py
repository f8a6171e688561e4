"""One uninterrupted run for all tests of one session: what everything else is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.harness import Work, check_conservation


@dataclass(frozen=True)
class Calm:
    """An uninterrupted run: what it published, and how many commits it took."""

    tree: dict[str, str]
    commits: int


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """The standard recipe, run on Ray without a hitch in a fresh store."""
    work = Work(tmp_path_factory.mktemp("calm") / "work")
    work.run(seconds=120)
    check_conservation(work)
    return Calm(work.tree(), work.progress())


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A fresh folder with the standard recipe."""
    return Work(tmp_path / "work")
