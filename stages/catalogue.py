"""From the name in a recipe to the class behind it."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import TypeVar

import yaml

from schemas.digest import digest
from schemas.errors import MissingExtra, OmnicurateError, nearest
from stages.base import Configured, Model, Stage

T = TypeVar("T", bound=Configured)


@cache
def _catalogue() -> dict[str, dict[str, str]]:
    loaded: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("catalogue.yaml").read_text())
    return loaded


def stage_names() -> list[str]:
    """Every stage name that recipes may use."""
    return sorted(_catalogue()["stages"])


def model_names() -> list[str]:
    """Every model name that recipes may use."""
    return sorted(_catalogue()["models"])


def find_stage(name: str) -> type[Stage]:
    """The stage class of a catalogue name or of `package.module:Class`. Raises OmnicurateError."""
    return _find(name, _catalogue()["stages"], Stage, "stage")


def find_model(name: str) -> type[Model]:
    """The model class of a catalogue name or of `package.module:Class`. Raises OmnicurateError."""
    return _find(name, _catalogue()["models"], Model, "model")


def source_digest(cls: type[Configured]) -> str | None:
    """Digest of the file that defines a class that is not in the catalogue: editing it makes its results new."""
    if cls.__module__.split(".")[0] in ("stages", "pipelines"):
        return None
    file = importlib.import_module(cls.__module__).__file__
    return digest(Path(file).read_bytes()).hex() if file else None


def _find(name: str, known: dict[str, str], base: type[T], what: str) -> type[T]:
    path = known.get(name, name)
    if ":" not in path:
        raise OmnicurateError(f"there is no {what} {name!r}", nearest(name, known))
    module_name, class_name = path.split(":", 1)
    ours = module_name.startswith("stages.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or "?"
        if module_name.startswith(missing):
            hint = "it must be importable from the folder where the command runs"
            raise OmnicurateError(f"cannot import {module_name!r} for the {what} {name!r}", hint) from None
        if ours:
            raise MissingExtra(missing, "all") from None
        raise OmnicurateError(f"{module_name} needs the package {missing}, which is not installed") from None
    except Exception as error:
        if ours:
            raise
        place = f" ({error.filename}:{error.lineno})" if isinstance(error, SyntaxError) else ""
        raise OmnicurateError(f"importing {module_name} failed: {type(error).__name__}: {error}{place}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise OmnicurateError(f"{path} is not a {what}", f"a subclass of stages.base.{base.__name__} is expected")
    if "__pydantic_config__" not in vars(found):
        raise OmnicurateError(f"{path} is not decorated", "put @options (of stages.base) above the class")
    return found
