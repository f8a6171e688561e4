"""Omnicurate: entry point and worker bootstrap.

The packages `schemas`, `stages` and `pipelines` have common names, and Python (and Ray's workers) look in the current
folder first. So they are loaded here, from beside this file, before anything else could answer to their names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
PACKAGES = ("schemas", "stages", "pipelines")
_DIGEST = "OMNICURATE_CODE_DIGEST"
_PATH = "OMNICURATE_PATH"


def bootstrap() -> None:
    """Load the three packages from beside this file, whatever else has their names."""
    for name in PACKAGES:
        loaded = sys.modules.get(name)
        if loaded is not None:
            if Path(loaded.__file__ or "").resolve().parent != ROOT / name:
                raise ImportError(f"another package called {name!r} was imported before omnicurate: {loaded.__file__}")
            continue
        places = [str(ROOT / name)]
        spec = importlib.util.spec_from_file_location(
            name, ROOT / name / "__init__.py", submodule_search_locations=places
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def bootstrap_worker() -> None:
    """What every Ray worker does first: the right packages, the driver's code, the user's modules importable."""
    bootstrap()
    expected = os.environ.get(_DIGEST)
    if expected and expected != code_digest():
        raise ImportError("the workers have another version of omnicurate than the driver; install the same one")
    for folder in os.environ.get(_PATH, "").split(os.pathsep):
        if folder and folder not in sys.path:
            sys.path.append(folder)


def runtime_env() -> dict[str, Any]:
    """The Ray runtime environment of our workers."""
    variables = {_DIGEST: code_digest(), _PATH: os.getcwd()}
    return {"worker_process_setup_hook": "omnicurate.bootstrap_worker", "env_vars": variables}


def code_digest() -> str:
    """Digest of the source of the three packages."""
    state = hashlib.blake2b(digest_size=16)
    for name in PACKAGES:
        for file in sorted((ROOT / name).rglob("*.py")):
            state.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return state.hexdigest()


def main() -> None:
    """The command `omnicurate`. Stages of the user's own are looked for in the current folder, last."""
    from pipelines.cli import app

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())

    app()


bootstrap()

if __name__ == "__main__":
    main()
