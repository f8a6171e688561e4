"""From a recipe to a graph of segments, with everything checked before anything runs.

A node is a segment: neighbouring light steps are fused, a model step stands alone (so a new light step before it
does not change what it reads, and its results are reused). Sources, expands and combines make new bases; the rest
are layers. `from` and `union` cost nothing: they are views.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Literal

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from pipelines.step import Step
from schemas.columns import ANY, CANONICAL, LINEAGE, RESERVED, Columns, has_path, leaves, merge_types, path_type
from schemas.errors import DataError, MissingExtra, OmnicurateError, RecipeError, nearest
from schemas.recipe import Located, Output, Path, Recipe, load_recipe, steps_of
from schemas.recipe import Step as StepText
from schemas.store import unwritable
from stages.base import (
    Batch,
    Choice,
    Columnar,
    Combine,
    Configured,
    Expand,
    Gather,
    Indexed,
    Map,
    Model,
    Needs,
    Source,
    Stage,
)
from stages.catalogue import find_model, find_stage, source_digest

Kind = Literal["source", "indexed", "rows", "batch", "expand", "gather", "combine", "union", "mix", "pack"]
_KINDS: dict[type[Stage], Kind] = {
    Source: "source",
    Indexed: "indexed",
    Map: "rows",
    Columnar: "rows",
    Batch: "batch",
    Expand: "expand",
    Gather: "gather",
    Combine: "combine",
    Choice: "mix",
}


@dataclass
class Node:
    """A segment of the graph."""

    index: int
    kind: Kind
    flow: str
    steps: tuple[Step, ...]
    parents: tuple[Node, ...]
    types: dict[str, pa.DataType]
    """Columns that can be read after it."""
    parts: tuple[str, ...]
    """Parts that can be read after it."""
    output: tuple[str, Output] | None = None
    input_names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For people: flow and steps."""
        if self.output:
            return f"{self.output[0]}: pack"
        return f"{self.flow}: {', '.join(step.name for step in self.steps) or self.kind}"

    @property
    def needs(self) -> Needs:
        """Resources of one worker."""
        return self.steps[0].stage.needs if self.steps else Needs()


@dataclass
class Plan:
    """A checked recipe: nodes in topological order, and the models that they use."""

    recipe: Recipe
    file: str
    nodes: list[Node] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)
    inputs: dict[str, list[str]] = field(default_factory=dict)
    """Flow -> the flows that it begins with."""
    unused: list[str] = field(default_factory=list)
    """Flows that no output needs; they are not run."""

    def excerpt(self, name: str) -> dict[str, Any]:
        """What the recipe says of one output: its flows with all they come from, its models, as they are written."""
        output = self.recipe.outputs[name]
        wanted, open_flows = set[str](), [output.pack]
        while open_flows:
            flow = open_flows.pop()
            if flow not in wanted:
                wanted.add(flow)
                open_flows += self.inputs[flow]
        stages = (step.stage for node in self.nodes if node.flow in wanted for step in node.steps)
        models = {stage.model for stage in stages if isinstance(stage, Batch)}
        excerpt = {
            "seed": self.recipe.seed,
            "models": {model: self.recipe.models[model] for model in sorted(models)},
            "flows": {flow: self.recipe.flows[flow] for flow in sorted(wanted)},
            "outputs": {name: output.model_dump(exclude={"to"})},
        }
        found: dict[str, Any] = json.loads(json.dumps(excerpt, default=str))  # YAML knows dates
        return found

    def only(self, kind: Kind) -> Plan:
        """The plan of the outputs that come from a node of that kind. Raises RecipeError where none does."""
        packs = [node for node in self.nodes if node.output]
        chosen = [pack for pack in packs if any(node.kind == kind for node in self.lineage(pack))]
        if not chosen:
            raise RecipeError(f"no output of the recipe comes from a `{kind}` step", "", self.file)
        self.keep(chosen)
        return self

    def keep(self, packs: list[Node]) -> None:
        """Leave out the nodes that none of the packs needs."""
        wanted = {node.index for pack in packs for node in self.lineage(pack)}
        self.nodes = [node for node in self.nodes if node.index in wanted]
        for index, node in enumerate(self.nodes):
            node.index = index

    def lineage(self, node: Node) -> list[Node]:
        """The node and everything upstream of it, in topological order."""
        wanted = {node.index}
        for candidate in reversed(self.nodes[: node.index + 1]):
            if candidate.index in wanted:
                wanted |= {parent.index for parent in candidate.parents}
        return [candidate for candidate in self.nodes if candidate.index in wanted]


def make_plan(file: str, text: str | None = None, settings: Mapping[str, str] = {}) -> Plan:
    """Read, check and resolve a recipe. Raises RecipeError with file:line:column before anything has run.

    settings: dotted path -> YAML value, in the place of what the file says (`schemas.recipe.Located.set`).
    """
    recipe, located = load_recipe(file, text, settings)
    return _Builder(recipe, located).build()


class _Builder:
    def __init__(self, recipe: Recipe, located: Located) -> None:
        self.recipe = recipe
        self.located = located
        self.plan = Plan(recipe, located.file)
        self.ends: dict[str, Node] = {}
        self.visiting: list[str] = []

    def build(self) -> Plan:
        problem = unwritable(self.recipe.store)
        if problem:
            raise self._error(f"the store cannot be written: {problem}", "", ("store",))
        for name in self.recipe.models:
            self.plan.models[name] = self._model(name)
        for flow in self.recipe.flows:
            self._flow(flow, ("flows", flow))
        targets: dict[str, str] = {}
        for name, output in self.recipe.outputs.items():
            at: Path = ("outputs", name)
            parent = self._flow(output.pack, (*at, "pack"))
            for key in ("record", "parts"):
                for i, path in enumerate(getattr(output, key) or ()):
                    known = parent.types if key == "record" else dict.fromkeys(parent.parts, ANY)
                    if not has_path(known, path):
                        what = "column" if key == "record" else "part"
                        hint = nearest(path, [*leaves(known), *known])
                        raise self._error(f"the flow {output.pack!r} has no {what} {path!r}", hint, (*at, key, i))
            problem = unwritable(output.to)
            if problem:
                raise self._error(f"the output {name!r} cannot be written: {problem}", "", (*at, "to"))
            if output.to in targets:
                raise self._error(f"the outputs {targets[output.to]!r} and {name!r} have one place", "", (*at, "to"))
            targets[output.to] = name
            self._add("pack", output.pack, (), (parent,), parent.types, parent.parts, output=(name, output))
        if self.recipe.outputs:
            self._leave_out_unused()
        return self.plan

    def _leave_out_unused(self) -> None:
        """Flows that no output needs are checked, but not run."""
        packs = [node for node in self.plan.nodes if node.output]
        used = {flow for name in self.recipe.outputs for flow in self.plan.excerpt(name)["flows"]}
        self.plan.unused = [flow for flow in self.recipe.flows if flow not in used]
        self.plan.keep(packs)

    def _error(self, message: str, hint: str, at: Path, value: bool = True) -> RecipeError:
        is_step = len(at) == 4 and at[0] == "flows"  # blame the step's name, not its braces
        return RecipeError(message, hint, self.located.where(at, value and not is_step))

    def _model(self, name: str) -> Model:
        at: Path = ("models", name)
        options = dict(self.recipe.models[name])
        if "use" not in options:
            raise self._error(f"the model {name!r} does not say what it uses", "use: asr.faster_whisper", at, False)
        try:
            cls = find_model(options.pop("use"))
        except OmnicurateError as error:
            raise self._error(error.message, error.hint, (*at, "use")) from None
        built: Model = self._construct(cls, options, at)
        return built

    def _construct(self, cls: type[Any], options: dict[str, Any], at: Path) -> Any:
        names = [f.name for f in dataclasses.fields(cls)]
        for key in options:
            if not isinstance(key, str):  # YAML reads on, off, yes, no as booleans
                raise self._error(f"unknown key {key!r}", nearest(str(key), names), (*at, key), False)
        try:
            built = cls(**options)
        except ValidationError as error:
            raise self.located.explain(error, at, lambda path: _options_at(cls, path) or [*names, "as"]) from None
        self._check(built, at)
        return built

    def _check(self, built: Configured, at: Path) -> None:
        for requirement in built.requires:
            if importlib.util.find_spec(requirement.module) is None:
                error = MissingExtra(requirement.module, requirement.extra)
                raise self._error(error.message, error.hint, at, False)
        for problem in built.check():
            raise self._error(problem, "", at, False)

    def _flow(self, flow: str, at: Path) -> Node:
        if flow in self.ends:
            if self.visiting:
                self.plan.inputs[self.visiting[-1]].append(flow)
            return self.ends[flow]
        if flow not in self.recipe.flows:
            raise self._error(f"there is no flow {flow!r}", nearest(flow, self.recipe.flows), at)
        if flow in self.visiting:
            ring = " -> ".join([*self.visiting[self.visiting.index(flow) :], flow])
            raise self._error(f"the flows form a cycle: {ring}", "a flow cannot need its own result", at)
        if self.visiting:
            self.plan.inputs[self.visiting[-1]].append(flow)
        self.plan.inputs[flow] = []
        self.visiting.append(flow)
        first, *rest = steps_of(self.recipe, self.located, flow)
        node = self._first(flow, first)
        fused: list[Step] = []
        names = self._step_names(node)
        for text in rest:
            if text.use in ("from", "union"):
                raise self._error(f"{text.use!r} can only begin a flow", "", text.at, False)
            types, parts = self._after(node, fused)
            step = self._step(flow, text, types, parts)
            kind = _kind(step.stage)
            if kind in ("source", "indexed", "combine", "mix"):
                raise self._error(f"{text.use!r} can only begin a flow", "", text.at, False)
            self._check_names(step, text, types, names)
            names.add(step.name)
            if kind != "rows" or not _fuses(fused, step):
                node = self._flush(flow, node, fused)
                fused = []
            fused.append(step)
            if kind != "rows":
                node = self._flush(flow, node, fused, kind)
                fused = []
        self.ends[flow] = self._flush(flow, node, fused)
        self.visiting.pop()
        return self.ends[flow]

    def _check_names(self, step: Step, text: StepText, types: Mapping[str, pa.DataType], names: set[str]) -> None:
        """A step's own column must be new; only shared writes (a rename) may replace one."""
        written = step.columns_written()
        if not pa.types.is_struct(written.get(step.name, pa.null())) or step.stage.writes().shared:
            return
        hint = f"name the step: `as: {step.name}_2`"
        if step.name in names:
            raise self._error(f"two steps write the column {step.name!r}", hint, text.at, False)
        if step.name in types or step.name in CANONICAL:
            raise self._error(f"the step would replace the column {step.name!r}", hint, text.at, False)

    def _step_names(self, node: Node) -> set[str]:
        return {step.name for upstream in self.plan.lineage(node) for step in upstream.steps}

    def _first(self, flow: str, text: StepText) -> Node:
        if text.use == "from":
            return self._flow(str(text.options), text.at)
        if text.use == "union":
            if not isinstance(text.options, list) or not text.options:
                raise self._error("union takes a list of flows", "union: [first, second]", text.at)
            parents = tuple(self._flow(str(name), (*text.at, i)) for i, name in enumerate(text.options))
            types: dict[str, pa.DataType] = {}
            for parent in parents:
                try:
                    types = merge_types(types, parent.types, f"union of {', '.join(map(str, text.options))}")
                except TypeError as error:
                    raise self._error(str(error), "rename one of them before the union", text.at) from None
            parts = tuple(dict.fromkeys(name for parent in parents for name in parent.parts))
            return self._add("union", flow, (), parents, types, parts)
        step = self._step(flow, text, {}, ())
        if isinstance(step.stage, Combine):
            return self._combine(flow, step, text)
        if isinstance(step.stage, Choice):
            return self._mix(flow, step, text)
        if not isinstance(step.stage, (Source, Indexed)):
            hint = "a flow begins with an ingest step, from, union, join or mix"
            raise self._error(f"the flow {flow!r} begins with {text.use!r}, which needs rows", hint, text.at, False)
        types, parts = self._after(None, [step])
        return self._add(_kind(step.stage), flow, (step,), (), types, parts)

    def _combine(self, flow: str, step: Step, text: StepText) -> Node:
        assert isinstance(step.stage, Combine)
        inputs = {name: self._flow(of, (*text.at, name)) for name, of in step.stage.inputs().items()}
        for name, parent in inputs.items():
            if not has_path({"key": pa.string(), **parent.types}, step.stage.bucket_on(name)):
                message = f"the flow {parent.flow!r} has no column {step.stage.bucket_on(name)!r}"
                raise self._error(message, nearest(step.stage.bucket_on(name), leaves(parent.types)), (*text.at, "by"))
        try:
            types = step.stage.types({name: parent.types for name, parent in inputs.items()})
        except ValueError as error:
            raise self._error(str(error), "", text.at, False) from None
        parts = tuple(dict.fromkeys(part for parent in inputs.values() for part in parent.parts))
        parents = tuple(inputs.values())
        return self._add("combine", flow, (step,), parents, types, parts, input_names=tuple(inputs))

    def _mix(self, flow: str, step: Step, text: StepText) -> Node:
        assert isinstance(step.stage, Choice)
        names = step.stage.inputs()
        parents = tuple(self._flow(name, (*text.at, "sources", name)) for name in names)
        try:
            types = step.stage.types({name: parent.types for name, parent in zip(names, parents, strict=True)})
        except ValueError as error:
            raise self._error(str(error), "", text.at, False) from None
        parts = tuple(dict.fromkeys(part for parent in parents for part in parent.parts))
        return self._add("mix", flow, (step,), parents, types, parts, input_names=names)

    def _step(self, flow: str, text: StepText, types: Mapping[str, pa.DataType], parts: tuple[str, ...]) -> Step:
        try:
            cls = find_stage(text.use)
        except OmnicurateError as error:
            raise self._error(error.message, error.hint, text.at, False) from None
        if not isinstance(text.options, dict):
            raise self._error(f"{text.use}: expected options `{{name: value}}`, not {text.options!r}", "", text.at)
        options = dict(text.options)
        name = options.pop("as", text.use.rsplit(":", 1)[-1].rsplit(".", 1)[-1])
        if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
            raise self._error(f"`as` must be a plain name, not {name!r}", "", (*text.at, "as"))
        fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if issubclass(cls, Source):
            options.setdefault("source", flow)
        if "seed" in fields:
            options.setdefault("seed", self.recipe.seed)
        stage = self._construct(cls, options, text.at)
        self._check_reads(stage, text, types, parts)
        return Step(flow, name, text.use, stage, self._spec(stage, text, name))

    def _check_reads(
        self, stage: Stage, text: StepText, types: Mapping[str, pa.DataType], parts: tuple[str, ...]
    ) -> None:
        known = {"key": pa.string(), **types}
        try:
            declarations: tuple[Any, ...] = (stage.reads(), stage.writes())
            for declared in declarations:
                if not isinstance(declared, Columns):
                    message = f"reads() and writes() of {text.use} must return Columns, not {type(declared).__name__}"
                    raise self._error(message, "", text.at)
            stage.bind(types)
            reads = stage.reads()
        except ValueError as error:
            raise self._error(str(error), "", self._blame(text, None), True) from None
        for path, kind in reads.fields.items():
            found = path_type(known, path)
            if found is None:
                hint = nearest(path, [*leaves(types), *types])
                raise self._error(
                    f"no step before {text.use} writes the column {path!r}", hint, self._blame(text, path)
                )
            if kind not in (ANY, found) and not pa.types.is_null(found):
                raise self._error(f"{text.use} needs {path} as {kind}, but it is {found}", "", self._blame(text, path))
        for part in reads.parts:
            if part not in parts:
                message = f"no step before {text.use} brings the part {part!r}"
                raise self._error(message, nearest(part, parts), self._blame(text, part))

    def _blame(self, text: StepText, value: str | None) -> Path:
        """The option that says `value`, or the text option of an expression, or the step."""
        for key, given in text.options.items():
            if given == value or (value is None and key == "sql"):
                return (*text.at, key)
        return text.at

    def _spec(self, stage: Stage, text: StepText, name: str) -> dict[str, Any]:
        options = {**TypeAdapter(type(stage)).dump_python(stage, mode="json"), **stage.identity()}
        spec = {"use": text.use, "version": stage.version, "options": options, "as": name}
        digest = source_digest(type(stage))
        if digest:
            spec["code"] = digest
        if isinstance(stage, Source):
            # Columns may be inferred from the input: other columns, other rows, whatever the options say.
            try:
                spec["columns"] = stage.kinds()
            except (DataError, OSError) as error:
                raise self._error(f"{text.use}: {error}", "", text.at, False) from None
        if isinstance(stage, Batch):
            if stage.model not in self.plan.models:
                hint = nearest(stage.model, self.plan.models)
                raise self._error(f"there is no model {stage.model!r}", hint, (*text.at, "model"))
            model = self.plan.models[stage.model]
            spec["model"] = {"class": type(model).__name__, "version": model.version, **model.identity()}
            del options["model"]  # the recipe's name for it does not matter
        return spec

    def _after(self, node: Node | None, steps: list[Step]) -> tuple[dict[str, pa.DataType], tuple[str, ...]]:
        types = dict(node.types) if node else {}
        parts = node.parts if node else ()
        for step in steps:
            try:
                written = step.columns_written()
                step_parts = step.stage.writes().parts
            except (DataError, OSError) as error:
                where = self.located.where(("flows", step.flow))
                raise RecipeError(f"{step.use}: {error}", "", where) from None
            types.update(written)
            if isinstance(step.stage, Expand):
                types["lineage"] = LINEAGE
            if isinstance(step.stage, Source):
                for name in ("source", "license", "origin"):
                    types.setdefault(name, CANONICAL[name])
            parts = tuple(dict.fromkeys((*parts, *step_parts)))
        return types, parts

    def _flush(self, flow: str, node: Node, steps: list[Step], kind: Kind = "rows") -> Node:
        if not steps:
            return node
        types, parts = self._after(node, steps)
        return self._add(kind, flow, tuple(steps), (node,), types, parts)

    def _add(
        self,
        kind: Kind,
        flow: str,
        steps: tuple[Step, ...],
        parents: tuple[Node, ...],
        types: dict[str, pa.DataType],
        parts: tuple[str, ...],
        output: tuple[str, Output] | None = None,
        input_names: tuple[str, ...] = (),
    ) -> Node:
        node = Node(len(self.plan.nodes), kind, flow, steps, parents, types, parts, output, input_names)
        self.plan.nodes.append(node)
        return node


def _options_at(cls: type[Any], path: Path) -> list[str]:
    """The keys that are right at a path below a stage's options."""
    schema = TypeAdapter(cls).json_schema()
    at: Any = schema
    for part in path:
        at = at.get("properties", {}).get(part) or at.get("additionalProperties") or {}
        for choice in (at, *at.get("anyOf", ())) if isinstance(at, dict) else ():
            if "$ref" in choice:
                at = schema["$defs"][choice["$ref"].rpartition("/")[2]]
        if not isinstance(at, dict):
            return []
    return list(at.get("properties", {})) if path else []


def _fuses(fused: list[Step], step: Step) -> bool:
    """Whether a light step can join the segment: same resources, and no read of a whole struct still in the making."""
    if any(other.stage.needs != step.stage.needs for other in fused):
        return False
    return not any(other.name in step.stage.reads().fields for other in fused)


def _kind(stage: Stage) -> Kind:
    return next(kind for cls, kind in _KINDS.items() if isinstance(stage, cls))


def store_root(plan: Plan) -> str:
    """The store of a recipe, as an absolute path or URI."""
    store = plan.recipe.store
    return store if "://" in store else str(FilePath(store).absolute())
