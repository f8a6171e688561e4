"""What changed between two versions of a data set, or between two data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, TypeAlias

from pipelines.inspect.columns import DIMENSIONS, MODALITY, Leaf, each_part, grouped, has_text, leaves
from pipelines.inspect.dataset import DataSet, versions
from schemas.digest import canonical_json
from schemas.errors import DataError
from schemas.manifest import Manifest, StepCount

CHANGES = ("added", "removed", "changed")
_EXAMPLES = 5
_OLD, _NEW = "older", "samples"  # the views
# The ancestors of a sample and its place in the data set are not what it says.
_ASIDE = ("key", "parts", "lineage", "order", "shard")
_Columns: TypeAlias = Mapping[str, Mapping[str, Leaf]]


def newest_versions(path: str) -> tuple[str, str]:
    """The version that `latest` names, after the newest of the others; DataError where there are not two."""
    found = sorted((row for row in versions(path) if row["state"] == "published"), key=lambda row: row["published"])
    if len({row["dataset"] for row in found}) > 1:
        raise DataError(f"{path} holds several data sets", "give one of them, or two versions to compare")
    if len(found) < 2:
        raise DataError(f"{path} does not hold two published versions", "give two data sets or versions to compare")
    found.sort(key=lambda row: row["latest"])  # a mixture that was there already may be the latest again
    old, new = (f"{row['dataset']}/{row['version']}" for row in found[-2:])
    return old, new


def diff(old: DataSet, new: DataSet) -> dict[str, Any]:
    """Differences of the recipes, the steps and the samples, with some keys of each kind of change."""
    found: dict[str, Any] = {"old": old.root, "new": new.root, "recipe": [], "steps": []}
    if old.manifest and new.manifest:
        found["recipe"] = list(recipe_differences(old.manifest.recipe, new.manifest.recipe))
        found["steps"] = _steps(old.manifest, new.manifest)
    with new.connect(old) as connection:
        columns = {view: leaves(connection, view) for view in (_OLD, _NEW)}
        values = _make_changes(connection, columns, old, new)
        counts = dict(connection.execute("SELECT change, count(*) FROM changes GROUP BY ALL").fetchall())
        totals = {"old": _count(connection, _OLD), "new": _count(connection, _NEW)}
        found["samples"] = totals | {change: counts.get(change, 0) for change in CHANGES}
        found["columns"] = _changed_columns(connection, values) if counts.get("changed") else {}
        gone = "FROM rejects SEMI JOIN removed USING (key)"
        why = f"SELECT step, reason, count(*) {gone} GROUP BY ALL ORDER BY 3 DESC, 1, 2"
        names = ("step", "reason", "samples")
        found["rejected"] = [dict(zip(names, row, strict=True)) for row in connection.execute(why).fetchall()]
        found["groups"] = _groups(connection, columns)
        some = "SELECT key FROM changes WHERE change = ? ORDER BY key LIMIT ?"
        found["keys"] = {
            change: [key for [key] in connection.execute(some, [change, _EXAMPLES]).fetchall()] for change in CHANGES
        }
    return found


def changed_keys(old: DataSet, new: DataSet) -> Iterator[tuple[str, str]]:
    """Every change, `added`, `removed` or `changed`, with its key, in the order of the keys."""
    with new.connect(old) as connection:
        _make_changes(connection, {view: leaves(connection, view) for view in (_OLD, _NEW)}, old, new)
        connection.execute("SELECT change, key FROM changes ORDER BY key")
        while rows := connection.fetchmany(10_000):
            yield from rows


def _count(connection: Any, view: str) -> int:
    [count] = connection.execute(f"SELECT count(*) FROM {view}").fetchone()
    return int(count)


def _make_changes(connection: Any, columns: _Columns, old: DataSet, new: DataSet) -> list[str]:
    """Make the table `changes` of keys and the views `old_values` and `new_values`; the paths that these compare."""
    pairs = [(leaf, columns[_OLD][path]) for path, leaf in columns[_NEW].items() if path in columns[_OLD]]
    pairs = [(new_leaf, old_leaf) for new_leaf, old_leaf in pairs if new_leaf.path not in _ASIDE]
    values = [leaf.sql if leaf.type == before.type else f"{leaf.sql}::VARCHAR" for leaf, before in pairs]
    media = "row(p.name, p.format, p.size, p.view" + (", p.digest)" if old.manifest and new.manifest else ")")
    for view, name in ((_OLD, "old"), (_NEW, "new")):
        named = [f"{value} AS v{i}" for i, value in enumerate([*values, each_part(columns[view], media)])]
        connection.execute(f"CREATE TEMP VIEW {name}_values AS SELECT key, {', '.join(named)} FROM {view}")
    content = ", ".join(f"v{i}" for i in range(len(values) + 1))
    sides = (f"(SELECT key, hash({content}) AS content FROM {name}_values) AS {name}" for name in ("old", "new"))
    change = "CASE WHEN old.content IS NULL THEN 'added' WHEN new.content IS NULL THEN 'removed' ELSE 'changed' END"
    connection.execute(
        f"CREATE TEMP TABLE changes AS SELECT key, {change} AS change "
        f"FROM {' FULL JOIN '.join(sides)} USING (key) WHERE old.content IS DISTINCT FROM new.content"
    )
    for change in CHANGES:
        connection.execute(
            f"CREATE TEMP VIEW {change} AS SELECT key, true AS moved FROM changes WHERE change = '{change}'"
        )
    return [*(leaf.path for leaf, _ in pairs), "media"]


def _changed_columns(connection: Any, paths: list[str]) -> dict[str, int]:
    """In how many of the changed samples each column is another."""
    counts = ", ".join(f"count(*) FILTER (WHERE old.v{i} IS DISTINCT FROM new.v{i})" for i in range(len(paths)))
    sql = f"SELECT {counts} FROM changed JOIN old_values AS old USING (key) JOIN new_values AS new USING (key)"
    found = zip(paths, connection.execute(sql).fetchone(), strict=True)
    return dict(sorted(((path, count) for path, count in found if count), key=lambda item: -item[1]))


def _groups(connection: Any, columns: _Columns) -> list[dict[str, Any]]:
    """What was added and removed for each value of the dimensions that both have."""
    paths = [name for name in DIMENSIONS if name == MODALITY or all(name in of for of in columns.values())]
    for view, change in ((_OLD, "removed"), (_NEW, "added")):
        source = f"(FROM {view} LEFT JOIN {change} USING (key))"
        cells = grouped(columns[view], paths, "count(*) AS n, count(moved) AS moved", source, has_text(columns[view]))
        connection.execute(f"CREATE TEMP TABLE {view}_cells AS {cells}")
    found = []
    names = ("value", "old", "new", "added", "removed")
    for place, path in enumerate(paths):
        sql = (
            "SELECT g, sum(n1)::BIGINT, sum(n2)::BIGINT, sum(a)::BIGINT, sum(r)::BIGINT FROM ("
            f"SELECT g{place} AS g, n AS n1, 0 AS n2, 0 AS a, moved AS r FROM {_OLD}_cells "
            f"UNION ALL SELECT g{place}, 0, n, moved, 0 FROM {_NEW}_cells) "
            "GROUP BY g ORDER BY greatest(sum(n1), sum(n2)) DESC, g"
        )
        rows = [dict(zip(names, row, strict=True)) for row in connection.execute(sql).fetchall()]
        found.append({"by": path, "rows": rows})
    return found


def _steps(old: Manifest, new: Manifest) -> list[dict[str, Any]]:
    """The counts of each step in both versions; None where a version has no such step."""
    before, after = ({(step.flow, step.step): step for step in of.steps} for of in (old, new))
    rows = []
    for key in dict.fromkeys([*after, *before]):
        present = after.get(key) or before[key]
        counts = {"old": _counts(before.get(key)), "new": _counts(after.get(key))}
        rows.append({"flow": present.flow, "step": present.step, "use": present.use, **counts})
    return rows


def _counts(step: StepCount | None) -> dict[str, int] | None:
    return None if step is None else {"read": step.read, "kept": step.kept, "rejected": sum(step.rejected.values())}


def recipe_differences(old: Any, new: Any, path: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The places where two recipes differ, as dotted paths; a side that has nothing there is left out.

    Items of lists are matched by what they are (steps by what they use), so an inserted step is one difference.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            sides = {name: of[key] for name, of in (("old", old), ("new", new)) if key in of}
            yield from _difference(sides, (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        matcher = SequenceMatcher(None, [_label(item) for item in old], [_label(item) for item in new], autojunk=False)
        for _, start, end, first, last in matcher.get_opcodes():
            for place in range(max(end - start, last - first)):
                sides = {"old": old[start + place]} if start + place < end else {}
                sides |= {"new": new[first + place]} if first + place < last else {}
                yield from _difference(sides, (*path, str((first if "new" in sides else start) + place)))
    elif old != new:
        yield {"path": ".".join(path), "old": old, "new": new}


def _difference(sides: dict[str, Any], path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if len(sides) == 2:
        yield from recipe_differences(sides["old"], sides["new"], path)
    else:
        yield {"path": ".".join(path), **sides}


def _label(item: Any) -> str:
    """What an item of a list is matched by."""
    return next(iter(item)) if isinstance(item, dict) and len(item) == 1 else canonical_json(item)
