"""What the toolkit can say of itself: the JSON schema of recipes, what is usable here, starters."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import inspect
import itertools
import keyword
import os
import platform
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from schemas.errors import OmnicurateError
from schemas.recipe import ErrorBudget, Output, Recipe, ShardLimits
from stages.base import Configured
from stages.catalogue import find_model, find_stage, model_names, stage_names

_TEMPLATES = Path(__file__).with_name("templates")


def recipe_schema() -> dict[str, Any]:
    """JSON schema of recipes, for editors that complete and check YAML."""
    schema = _recipe_itself()
    definitions = schema.setdefault("$defs", {})
    definitions["Step"] = {"oneOf": [_flow_start(), *(_step(name) for name in stage_names()), _own_stage()]}
    definitions["Model"] = {"oneOf": [_model(name) for name in model_names()]}
    schema["properties"]["flows"]["additionalProperties"] = {"type": "array", "items": {"$ref": "#/$defs/Step"}}
    schema["properties"]["models"]["additionalProperties"] = {"$ref": "#/$defs/Model"}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Omnicurate recipe"
    return schema


def _recipe_itself() -> dict[str, Any]:
    schema = Recipe.model_json_schema()
    _describe(Recipe, schema)
    for cls in (Output, ShardLimits, ErrorBudget):
        _describe(cls, schema["$defs"][cls.__name__])
    return schema


def options_schema(cls: type[Configured]) -> dict[str, Any]:
    """JSON schema of the options of a stage or model, with what stands below each of them."""
    found: dict[str, Any] = TypeAdapter(cls).json_schema()
    _describe(cls, found)
    found.pop("title", None)
    found["description"] = (cls.__doc__ or "").split("\n\n")[0].strip()
    found["additionalProperties"] = False
    return found


def _describe(cls: type, schema: dict[str, Any]) -> None:
    """Put what stands below each field of a class and its bases into the schema's properties.

    pydantic can do so itself, but when the class is made: then every worker and `--help` would read the sources.
    """
    properties = schema.get("properties", {})
    for base in cls.__mro__:
        if properties.keys() & vars(base).get("__annotations__", {}).keys():
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            assert isinstance(body, ast.ClassDef)
            for field, text in itertools.pairwise(body.body):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                        if name in properties:
                            properties[name].setdefault("description", inspect.cleandoc(words))


def _step(name: str) -> dict[str, Any]:
    options = options_schema(find_stage(name))
    options.setdefault("properties", {})["as"] = {
        "type": "string",
        "description": "Name of the step and of its column.",
    }
    value: dict[str, Any] = options if options.get("required") else {"anyOf": [options, {"type": "null"}]}
    step = {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}
    return step if options.get("required") else {"anyOf": [step, {"const": name}]}


def _flow_start() -> dict[str, Any]:
    flows = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    properties = {"from": {"type": "string"}, "union": flows}
    return {
        "type": "object",
        "properties": properties,
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }


def _own_stage() -> dict[str, Any]:
    return {
        "type": "object",
        "patternProperties": {"^[\\w.]+:\\w+$": {}},
        "additionalProperties": False,
        "minProperties": 1,
    }


def _model(name: str) -> dict[str, Any]:
    options = options_schema(find_model(name))
    options.setdefault("properties", {})["use"] = {"const": name}
    options["required"] = [*options.get("required", []), "use"]
    return options


_INTRODUCTION = """\
# Recipes: every key, every step

Written by `make docs` from the code; `omnicurate schema` prints the same as JSON schema. Paths are relative to the
folder where the command runs, or fsspec URIs. Every step takes `as`, its name and the name of the column it writes.

A flow begins with an ingest step, with `from: flow` (go on from another flow; any number may), with
`union: [flow, flow]` (rows of several, nothing is copied; columns that one lacks are null) or with `join`.
A stage of your own is `module:Class`.
"""


def reference() -> str:
    """The reference of recipes as Markdown."""
    schema = _recipe_itself()
    lines = [_INTRODUCTION, "## The recipe", ""]
    lines += _option_lines(schema["properties"], schema.get("required", []))
    for title, name in (("outputs", "Output"), ("outputs: shard", "ShardLimits"), ("errors", "ErrorBudget")):
        definition = schema["$defs"][name]
        lines += ["", f"### {title}", "", definition["description"], ""]
        lines += _option_lines(definition["properties"], definition.get("required", []))
    for title, names, find in (("Steps", stage_names(), find_stage), ("Models", model_names(), find_model)):
        lines += ["", f"## {title}"]
        for name in names:
            cls: type[Configured] = find(name)
            options = options_schema(cls)
            lines += ["", f"### {name}", "", " ".join((cls.__doc__ or "").split("\n\n")[0].split()), ""]
            lines += _option_lines(options.get("properties", {}), options.get("required", []))
            reasons = getattr(cls, "reasons", ())
            if isinstance(reasons, tuple) and reasons:
                lines += ["", f"Rejects: {', '.join(f'`{reason}`' for reason in reasons)}."]
    return "\n".join(lines) + "\n"


def _option_lines(properties: dict[str, Any], required: list[str]) -> list[str]:
    lines = []
    for name, option in properties.items():
        default = "required" if name in required else f"default {option['default']!r}" if "default" in option else ""
        text = " ".join(str(option.get("description", "")).split())
        lines.append(f"- `{name}`{f' ({default})' if default else ''}: {text}")
    return lines


class Finding(NamedTuple):
    """One thing that `doctor` looked at: is it usable, and what to do if not."""

    what: str
    fine: bool
    found: str
    remedy: str
    used_by: str = ""


def doctor() -> Iterator[Finding]:
    """What of the toolkit is usable on this machine."""
    version = platform.python_version()
    yield Finding("python", version >= "3.11", version, "Python 3.11 or later")
    for package in ("ray", "pyarrow", "duckdb", "webdataset"):
        yield Finding(package, True, importlib.metadata.version(package), "")
    yield Finding("processors", True, str(os.cpu_count()), "")
    free = shutil.disk_usage(".").free
    yield Finding("free disk here", free > 5e9, f"{free / 1e9:.0f} GB", "5 GB or more are wise")
    shared = shutil.disk_usage("/dev/shm").free if os.path.exists("/dev/shm") else 0
    yield Finding("/dev/shm for Ray", shared > 200e6, f"{shared / 1e9:.1f} GB", "mount a larger /dev/shm")
    gpus = sorted(str(p) for p in Path("/dev").glob("nvidia[0-9]*"))
    yield Finding("GPUs", True, ", ".join(gpus) or "none (models run on processors)", "")
    needed: dict[tuple[str, str], list[str]] = {}
    classes = [(n, find_stage(n)) for n in stage_names()] + [(n, find_model(n)) for n in model_names()]
    for name, cls in classes:
        for requirement in cls.requires:
            needed.setdefault(requirement, []).append(name)
    for (module, extra), users in sorted(needed.items()):
        fine = importlib.util.find_spec(module) is not None
        remedy = f"pip install 'omnicurate[{extra}]'"
        yield Finding(module, fine, "installed" if fine else "missing", remedy, ", ".join(users))
    for name in model_names():
        try:
            problems = list(find_model(name)().check())
        except (TypeError, ValueError):
            continue  # it has no default weights that could be looked for
        yield Finding(f"weights of {name}", not problems, problems[0] if problems else "found", "", name)


STARTER_INPUT = "data/documents.jsonl"


def write_starter(kind: str, path: str) -> str:
    """Write a starter recipe or stage, and return what to do next.

    Raises OmnicurateError when the file is there already, or when it is a stage that no recipe could name.
    """
    text = (_TEMPLATES / f"{kind}.txt").read_text(encoding="utf-8")
    following = f"omnicurate plan {path}"
    if kind == "stage":
        module = _module_name(path)
        text = text.replace("MODULE", module)
        following = f"in a recipe, `- {module}:Shout` uses it; commands must run in {_folder_of(module, path)}"
    elif not os.path.exists(STARTER_INPUT):
        following = f"put JSON lines with a text field into {STARTER_INPUT}, then omnicurate plan {path}"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OmnicurateError(f"{path} exists already", "choose another name") from None
    except FileNotFoundError:
        raise OmnicurateError(f"the folder of {path} does not exist") from None
    except OSError as error:
        raise OmnicurateError(f"{path} cannot be written: {error.strerror}") from None
    return following


def _module_name(path: str) -> str:
    """How a recipe names the module in a file: from the current folder when the file is below it."""
    below = os.path.relpath(path)
    names = [os.path.basename(below)] if below.startswith("..") else below.split(os.sep)
    names[-1], extension = os.path.splitext(names[-1])
    if extension != ".py" or not _importable(names[-1]):
        message = f"{os.path.basename(path)} cannot be imported: a stage's file is named like a Python module"
        raise OmnicurateError(message, "letters, digits and _, then .py: my_stages.py")
    if not all(map(_importable, names)):
        names = names[-1:]  # importable from the file's own folder alone
    known = importlib.util.find_spec(names[0])
    places = [] if known is None else list(known.submodule_search_locations or ()) or [known.origin or ""]
    if known is not None and not any(place.startswith(os.getcwd() + os.sep) for place in places):
        raise OmnicurateError(f"{names[0]} is the name of another module, which hides it", "choose another name")
    return ".".join(names)


def _importable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("__")


def _folder_of(module: str, path: str) -> str:
    """The folder from which a module in a file can be imported, in words."""
    folder = Path(path).absolute().parents[module.count(".")]
    return "this folder" if folder == Path.cwd() else str(folder)
