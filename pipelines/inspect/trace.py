"""How a sample came to be: source, steps, decision, and the same for its ancestors in other data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.inspect.dataset import DataSet, open_dataset, query
from schemas.errors import DataError, OmnicurateError
from schemas.manifest import MANIFEST, Manifest, StepCount
from schemas.store import Store

_FACTS = ("source", "origin", "license", "task", "language")


def trace(data: DataSet, key: str) -> dict[str, Any]:
    """The history of a sample or a reject. Raises DataError for a key that the data set does not have."""
    return _trace(data, key, set())


def _trace(data: DataSet, key: str, seen: set[tuple[str, str]]) -> dict[str, Any]:
    seen.add((data.root, key))
    row, kept = _row(data, key)
    decision: dict[str, Any] = {"kept": kept}
    if not kept:
        decision |= {name: row[name] for name in ("flow", "step", "reason", "detail")}
    facts = {name: row[name] for name in _FACTS if row.get(name) is not None}
    found = {"key": key, "dataset": data.root, **facts}
    found["steps"] = [] if data.manifest is None else _steps(data.manifest, row, decision)
    found["decision"] = decision
    found["became"] = [] if kept else _became(data, key)
    lineage = [] if data.manifest is None else row.get("lineage") or []
    found["ancestors"] = []
    for entry in reversed(lineage):
        ancestor = _ancestor(data, entry, seen)
        found["ancestors"].append(ancestor)
        if ancestor["trace"]:  # which names those before it
            break
    return found


def _became(data: DataSet, key: str) -> list[str]:
    """Samples that were made of a reject: another branch may have kept it under another key."""
    with data.connect() as connection:
        sql = "SELECT DISTINCT key FROM lineage WHERE ancestor = ? ORDER BY key LIMIT 5"
        keys: list[str] = query(connection, sql, [key]).column("key").to_pylist()
    return keys


def _row(data: DataSet, key: str) -> tuple[dict[str, Any], bool]:
    """A sample, or a reject, with whether it was kept."""
    with data.connect() as connection:
        for view in ("samples", "rejects"):
            rows = query(connection, f"SELECT * FROM {view} WHERE key = ? LIMIT 1", [key]).to_pylist()
            if rows:
                return rows[0], view == "samples"
        keys = "SELECT key FROM samples UNION ALL SELECT key FROM rejects"
        nearest = f"SELECT key FROM ({keys}) ORDER BY jaro_winkler_similarity(key, ?) DESC, key LIMIT 3"
        near = query(connection, nearest, [key]).column("key").to_pylist()
    became = _became(data, key)
    if became:
        raise DataError(f"{key!r} has another key in {data.root}", f"trace {', '.join(became)}")
    hint = f"the nearest keys: {', '.join(near)}" if near else ""
    if data.manifest is not None and data.manifest.mixtures:
        hint += "\n  a mixture lists what it took; what it left is in its sources"
    raise DataError(f"there is no sample {key!r} in {data.root}", hint.lstrip())


def _ancestor(data: DataSet, entry: dict[str, Any], seen: set[tuple[str, str]]) -> dict[str, Any]:
    """One ancestor, and its own history where the version that it stood in is still there."""
    found: dict[str, Any] = {**entry, "trace": None, "note": ""}
    if entry["dataset"] is None:
        return found
    before = find_version(entry["dataset"], data)
    if before is None:
        found["note"] = f"{entry['dataset']}, which was not found"
        return found
    try:
        older = open_dataset(before)
        if (older.root, entry["key"]) in seen:
            found["note"] = "its history stands above"
        else:
            found["trace"] = _trace(older, entry["key"], seen)
    except OmnicurateError as error:
        found["note"] = error.message
    return found


def find_version(name: str, data: DataSet) -> str | None:
    """Where the version `data set/version` is: where the recipe of another data set read it, or beside that."""
    flows = data.manifest.recipe["flows"] if data.manifest else {}
    steps = [_parsed(item) for flow in flows.values() for item in flow]
    places = [str(options["path"]) for use, options in steps if use == "ingest.dataset"]
    beside = data.root.rsplit("/", 2)[0]
    version = name.rpartition("/")[2]
    candidates = [f"{beside}/{name}", *(f"{place}/{version}" for place in places)]
    candidates += [f"{place.rpartition('/')[0]}/{version}" for place in places]
    return next((place for place in candidates if Store(place).exists(MANIFEST)), None)


def _steps(manifest: Manifest, row: Mapping[str, Any], decision: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps that a row went through, with their options and what each wrote for it."""
    flows = manifest.recipe["flows"]
    [output] = manifest.recipe["outputs"].values()
    last = output["pack"] if decision["kept"] else decision["flow"]
    through = _flows(flows, last, row.get("source"), row["key"])
    steps = []
    for step in manifest.steps:
        if step.flow not in through:
            continue
        wrote = row.get(step.step)
        found = {"flow": step.flow, "step": step.step, "use": step.use, "options": _options(flows, step)}
        found["wrote"] = (
            {name: value for name, value in wrote.items() if value is not None} if isinstance(wrote, dict) else {}
        )
        steps.append(found)
        if (step.flow, step.step) == (decision.get("flow"), decision.get("step")):
            break
    return steps


def _flows(flows: Mapping[str, Any], flow: str, source: str | None, key: str) -> set[str]:
    """A flow with those that it begins with; of several only those that bring the row, where that is known.

    The key of a row in a mixture begins with the flow that brings it; elsewhere its source may tell.
    """
    before = _inputs(flows, flow)
    if _parsed(flows[flow][0])[0] == "mix":
        bring = [name for name in before if key.startswith(f"{name}/")]
    else:
        bring = [name for name in before if source in _sources(flows, name)]
    return {flow}.union(*(_flows(flows, name, source, key) for name in bring or before))


def _sources(flows: Mapping[str, Any], flow: str) -> set[str]:
    """The sources whose samples a flow may hold."""
    before = _inputs(flows, flow)
    _, options = _parsed(flows[flow][0])
    return set().union(*(_sources(flows, name) for name in before)) if before else {options.get("source") or flow}


def _inputs(flows: Mapping[str, Any], flow: str) -> list[str]:
    """The flows that the first step of a flow names."""
    use, options = _parsed(flows[flow][0])
    if use in ("from", "union"):
        named: Iterable[Any] = options["flows"]
    elif use == "mix":
        named = options["sources"]
    else:
        named = (value for name, value in options.items() if name != "source")
    return [name for name in named if isinstance(name, str) and name in flows and name != flow]


def _parsed(item: Any) -> tuple[str, dict[str, Any]]:
    """What a step uses, and its options; the flows of `from` and `union` as one."""
    if isinstance(item, str):
        return item, {}
    [(use, options)] = item.items()
    if isinstance(options, dict):
        return use, options
    return use, {"flows": options if isinstance(options, list) else [options]} if options is not None else {}


def _options(flows: Mapping[str, Any], step: StepCount) -> dict[str, Any]:
    for item in flows.get(step.flow, ()):
        use, options = _parsed(item)
        if use == step.use and options.get("as", step.step) == step.step:
            return {name: value for name, value in options.items() if name != "as"}
    return {}
