"""Recipes: YAML in, checked objects out, every complaint with file:line:column.

    seed: 7
    store: .omnicurate
    models:  {whisper: {use: asr.faster_whisper, weights: "bundled:tiny.en"}}
    flows:   {spoken: [ingest.jsonl: {path: a.jsonl}, filter.where: {sql: "length(text) > 3"}]}
    outputs: {spoken: {pack: spoken, to: out/spoken, shard: {bytes: 512MB}}}

A flow is a chain of steps. Its first step is a source, `from: flow`, `union: [flow, …]` or a combining stage.
What a step's options mean is the stage's affair and is checked by the planner.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from schemas.errors import RecipeError, nearest

Path: TypeAlias = tuple[Hashable, ...]
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_bytes(value: object) -> object:
    """`512MB`, `64KiB` or a number of bytes. Raises ValueError."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", value)
    if not found or found[2].lower() not in _UNITS:
        raise ValueError("expected a number of bytes such as 512MB or 64KiB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


Bytes = Annotated[int, BeforeValidator(parse_bytes)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardLimits(_Model):
    """Where a shard ends: at whichever bound comes first."""

    bytes: Annotated[Bytes, Field(ge=1024)] = 512_000_000
    """Largest size of a tar; a single larger sample gets a shard of its own."""
    samples: Annotated[int, Field(ge=1)] = 100_000
    """Largest number of samples."""


class Output(_Model):
    """A published data set."""

    pack: str
    """The flow that is packed."""
    to: Annotated[str, Field(min_length=1)]
    """Directory or URI; each version is a folder below it, `latest` names the newest."""
    shard: ShardLimits = ShardLimits()
    """Bounds of a tar: `{bytes: 512MB, samples: 100000}`."""
    record: list[str] | None = None
    """Columns (dotted paths) that go into each sample's JSON; all of them when left out."""
    parts: list[str] | None = None
    """Media parts that are packed; all of them when left out."""


class ErrorBudget(_Model):
    """How much may go wrong before a run stops. Rejects that a filter means do not count; exceptions do."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of samples that a step may lose to exceptions."""
    at_least: Annotated[int, Field(ge=0)] = 20
    """Fewer errors than this never stop a run."""


class Recipe(_Model):
    """A whole recipe."""

    seed: int = 0
    """Seed of every random choice."""
    store: Annotated[str, Field(min_length=1)] = ".omnicurate"
    """Directory or URI where intermediate results are kept and found again."""
    models: dict[str, dict[str, Any]] = {}
    """Models by name: `{use: catalogue name, …options}`."""
    flows: Annotated[dict[str, list[Any]], Field(min_length=1)]
    """Chains of steps by name."""
    outputs: dict[str, Output] = {}
    """Data sets to publish, by name."""
    errors: ErrorBudget = ErrorBudget()
    """How many samples a step may lose to exceptions: `{share: 0.05, at_least: 20}`."""


@dataclass(frozen=True)
class Step:
    """One step of a flow as it is written: `- use: options`."""

    use: str
    options: Any
    at: Path


class Located:
    """A parsed YAML document that knows where each key and value stands."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._marks: dict[Path, yaml.Mark] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
            raise RecipeError(f"not valid YAML: {error.problem}", "", at) from None
        except yaml.YAMLError as error:
            raise RecipeError(f"not valid YAML: {' '.join(str(error).split())}", "", file) from None
        self.value: Any = None if node is None else self._build(node, ())

    def _build(self, node: yaml.Node, path: Path) -> Any:
        self._marks.setdefault(path, node.start_mark)
        if isinstance(node, yaml.MappingNode):
            built: dict[Hashable, Any] = {}
            for key_node, value_node in node.value:
                key = yaml.SafeLoader("").construct_object(key_node, deep=True)
                if key in built:
                    raise RecipeError(f"the key {key!r} stands here twice", "", self._format(key_node.start_mark))
                self._marks[(*path, key)] = key_node.start_mark
                built[key] = self._build(value_node, (*path, key))
                self._marks[(*path, key, None)] = value_node.start_mark
            return built
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*path, i)) for i, child in enumerate(node.value)]
        return yaml.SafeLoader("").construct_object(node, deep=True)

    def set(self, path: str, value: str) -> None:
        """Set what stands at a dotted path to a YAML value: `seed`, `flows.sft.mix.total`, `outputs.sft.to`.

        An item of a list is its number, or the step that it is. What is no key of a recipe is looked for below its only
        `mix` step: `sources.vflan.weight`. Raises RecipeError where the path leads nowhere.
        """
        at: Any = self.value
        names = path.split(".")
        if names == ["seed"]:
            for mix in self._mixes():  # which may have seeds of their own
                if isinstance(mix, dict) and "seed" in mix:
                    mix["seed"] = yaml.safe_load(value)
        if names[0] not in Recipe.model_fields:
            at = self._only_mix(path)
        while len(names) > 1:
            key, names = _descend(at, names, path)
            if at[key] is None:
                at[key] = {}
            at = at[key]
        [last] = names
        key = int(last) if isinstance(at, list) and last.isdigit() and int(last) < len(at) else last
        if isinstance(at, dict) != isinstance(key, str):
            raise RecipeError(f"--set {path}: {last!r} leads nowhere", "only mappings have keys", self.file)
        try:
            at[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"--set {path}: {value!r} is not a YAML value", "", self.file) from None

    def _mixes(self) -> list[Any]:
        flows = self.value.get("flows")
        chains = flows.values() if isinstance(flows, dict) else ()
        steps = [step for flow in chains for step in flow or () if isinstance(step, dict)]
        return [step["mix"] for step in steps if "mix" in step]

    def _only_mix(self, path: str) -> Any:
        mixes = self._mixes()
        if len(mixes) != 1:
            hint = f"the recipe has {len(mixes)} `mix` steps; begin with a key of the recipe: flows.NAME.mix.{path}"
            raise RecipeError(f"--set {path}: {nearest(path.split('.')[0], Recipe.model_fields)}", hint, self.file)
        return mixes[0]

    def where(self, path: Path, value: bool = False) -> str:
        """`file:line:column` of the key at a path (or of its value), or of the nearest thing above it."""
        if value and (*path, None) in self._marks:
            return self._format(self._marks[(*path, None)])
        while path and path not in self._marks:
            path = path[:-1]
        return self._format(self._marks[path]) if path in self._marks else self.file

    def _format(self, mark: yaml.Mark) -> str:
        return f"{self.file}:{mark.line + 1}:{mark.column + 1}"

    def explain(self, error: ValidationError, prefix: Path, valid: Callable[[Path], Iterable[str]]) -> RecipeError:
        """The first complaint of a pydantic validation as a RecipeError with its place.

        valid: the keys that are right at a path below `prefix`, for the hint about a misspelt one.
        """
        errors = error.errors(include_url=False)
        misspelt = ("extra_forbidden", "unexpected_keyword_argument")
        first = next((found for found in errors if found["type"] in misspelt), errors[0])  # it may explain the others
        loc: Path = tuple(part for part in first["loc"])
        path = (*prefix, *loc)
        name = loc[-1] if loc else prefix[-1] if prefix else ""
        if first["type"] in misspelt:
            return RecipeError(f"unknown key {name!r}", nearest(str(name), valid(loc[:-1])), self.where(path))
        if first["type"] in ("missing", "missing_argument"):
            return RecipeError(f"the key {name!r} is missing", "", self.where(path[:-1]))
        message = first["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        given = first.get("input")
        return RecipeError(f"{name}: {message}, not {given!r}", "", self.where(path, value=True))


def _descend(at: Any, names: list[str], path: str) -> tuple[Any, list[str]]:
    """The key or index of a value that the first names lead to, and the names that are left."""
    if isinstance(at, list):
        if names[0].isdigit() and int(names[0]) < len(at):
            return int(names[0]), names[1:]
        for count in range(len(names), 0, -1):  # names of steps have dots in them
            step = ".".join(names[:count])
            found = [i for i, item in enumerate(at) if isinstance(item, dict) and step in item]
            if len(found) == 1:
                return found[0], [step, *names[count:]]
    elif isinstance(at, dict):
        if names[0] in at:
            return names[0], names[1:]
        raise RecipeError(f"--set {path}: there is no {names[0]!r}", nearest(names[0], map(str, at)))
    hint = "an item of a list is its number, or the step that it is"
    raise RecipeError(f"--set {path}: {names[0]!r} leads nowhere", hint)


def load_recipe(file: str, text: str | None = None, settings: Mapping[str, str] = {}) -> tuple[Recipe, Located]:
    """Read and check a recipe's outer form; settings replace values (see `Located.set`). Raises RecipeError."""
    if text is None:
        try:
            with open(file, encoding="utf-8") as handle:
                text = handle.read()
        except FileNotFoundError:
            raise RecipeError(f"there is no recipe {file}", "omnicurate new recipe FILE writes a starter") from None
        except UnicodeDecodeError as error:
            raise RecipeError("the recipe is not UTF-8 text", f"byte {error.start}", file) from None
        except OSError as error:
            raise RecipeError(f"cannot read {file}: {error.strerror}") from None
    located = Located(file, text)
    if not isinstance(located.value, dict):
        raise RecipeError("a recipe is a mapping with the keys flows, outputs, …", "", file)
    for path, value in settings.items():
        located.set(path, value)
    try:
        recipe = Recipe.model_validate(located.value)
    except ValidationError as error:
        raise located.explain(error, (), _valid_names) from None
    return recipe, located


def _valid_names(path: Path) -> Iterable[str]:
    if not path:
        return Recipe.model_fields
    if path[0] == "outputs":
        return ShardLimits.model_fields if path[-1] == "shard" else Output.model_fields
    return ErrorBudget.model_fields if path[0] == "errors" else ()


def steps_of(recipe: Recipe, located: Located, flow: str) -> list[Step]:
    """The steps of a flow. Raises RecipeError when one has not the form `name: {options}`."""
    steps = []
    for i, raw in enumerate(recipe.flows[flow]):
        at: Path = ("flows", flow, i)
        if isinstance(raw, str):
            steps.append(Step(raw, {}, at))
        elif isinstance(raw, dict) and len(raw) == 1 and isinstance(next(iter(raw)), str):
            [(use, options)] = raw.items()
            steps.append(Step(use, {} if options is None else options, (*at, use)))
        else:
            raise RecipeError("a step is `stage.name: {options}`", "one stage in each list item", located.where(at))
    if not steps:
        raise RecipeError(f"the flow {flow!r} has no steps", "", located.where(("flows", flow)))
    return steps
