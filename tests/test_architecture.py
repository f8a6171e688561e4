"""The architecture that the folders promise."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {"schemas": {"schemas"}, "stages": {"schemas", "stages"}, "pipelines": {"schemas", "stages", "pipelines"}}


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_downwards(package):
    for file in (ROOT / package).rglob("*.py"):
        ours = imports_of(file) & MAY_IMPORT.keys()
        assert ours <= MAY_IMPORT[package], f"{file.relative_to(ROOT)} imports {ours - MAY_IMPORT[package]}"


@pytest.mark.parametrize(("package", "banned"), [("schemas", {"ray", "torch"}), ("stages", {"ray"})])
def test_the_lower_rooms_know_no_ray(package, banned):
    for file in (ROOT / package).rglob("*.py"):
        assert not imports_of(file) & banned, file


def loaded_by(code: str) -> set[str]:
    script = f"import sys; {code}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(result.stdout.split())


def test_the_command_line_starts_light():
    loaded = loaded_by("import omnicurate, pipelines.cli")
    assert not loaded & {"ray", "pyarrow", "duckdb", "numpy", "pydantic", "rich", "torch"}


def test_a_plan_needs_no_ray_and_no_model_library():
    loaded = loaded_by("import omnicurate; from pipelines.plan import make_plan; make_plan('recipes/quickstart.yaml')")
    assert not loaded & {"ray", "torch", "faster_whisper", "ctranslate2"}
