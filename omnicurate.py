"""Omnicurate: entry point and worker bootstrap.

The packages `schemas`, `stages` and `pipelines` have common names, and Python (and Ray's workers) look in the current
folder first. So they are loaded here, from beside this file, before anything else could answer to their names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
PACKAGES = ("schemas", "stages", "pipelines")


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


class RayWorker:
    """What every Ray worker runs: an actor around the driver's own code and the user's modules.

    It lives here because Ray imports an actor's class by its module's name, and only this module can be found by name.
    Nothing else is set up for the worker's process (no Ray runtime environment), so any that Ray has started may serve.
    """

    def __init__(self, digest: str, path: str, root: str, model: bytes) -> None:
        """root: the store's. model: a pickled `Model` or None, which may need the path to be read.

        Raises ImportError when this machine has other code than the driver.
        """
        if digest != code_digest():
            raise ImportError("the worker has another version of omnicurate than the driver; install the same one")
        if path not in sys.path:
            sys.path.append(path)
        from pipelines.executors import execute

        self._execute = execute
        self._root = root
        recipe = pickle.loads(model)
        self._model = recipe.load() if recipe is not None else None

    def run(self, job: Any) -> Any:
        """Do a job."""
        return self._execute(self._root, job, self._model)


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
