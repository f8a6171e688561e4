"""Where filters cut: comparisons of a column with a number in the conditions of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from schemas.manifest import Manifest, StepCount
from stages.filter.expression import parse

_WHERE = "filter.where"


class Cut(NamedTuple):
    """A step that compares the column at a dotted path with a number."""

    flow: str
    step: str
    path: str
    at: float


def conditions(manifest: Manifest) -> dict[tuple[str, str], str]:
    """The SQL of every filter step, by flow and step."""
    flows = manifest.recipe["flows"]
    return {
        (count.flow, count.step): options["sql"]
        for count in manifest.steps
        if count.use == _WHERE and (options := _options(flows[count.flow], count)) is not None
    }


def _options(entries: list[Any], count: StepCount) -> dict[str, Any] | None:
    for entry in entries:
        if isinstance(entry, Mapping) and _WHERE in entry:
            options = dict(entry[_WHERE])
            if options.get("as", _WHERE.rpartition(".")[2]) == count.step:
                return options
    return None


def cuts(manifest: Manifest) -> list[Cut]:
    """All cuts of the filters of a data set, in the order of its steps."""
    return [
        Cut(flow, step, path, at)
        for (flow, step), sql in conditions(manifest).items()
        for path, at in dict.fromkeys(_comparisons(parse(sql)))
    ]


def _comparisons(node: Any) -> Iterator[tuple[str, float]]:
    if isinstance(node, list):
        for child in node:
            yield from _comparisons(child)
    if not isinstance(node, dict):
        return
    pairs: list[tuple[Any, Any]] = []
    if node.get("class") == "COMPARISON":
        pairs = [(node["left"], node["right"]), (node["right"], node["left"])]
    elif node.get("class") == "BETWEEN":
        pairs = [(node["input"], node["lower"]), (node["input"], node["upper"])]
    for column, constant in pairs:
        if column.get("class") == "COLUMN_REF" and constant.get("literal", {}).get("kind") in ("INTEGER", "NUMERIC"):
            yield ".".join(column["column_names"]), float(constant["literal"]["text"])
    for child in node.values():
        yield from _comparisons(child)
