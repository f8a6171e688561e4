"""Takedown: a new version of a data set without some samples and what was made of them, and who still holds them."""

from __future__ import annotations

import os
from typing import Any

import yaml

from pipelines.inspect.dataset import open_dataset, query
from pipelines.plan import Plan, make_plan
from schemas.errors import DataError, OmnicurateError
from schemas.published import read_manifest, resolve_version, version_folders
from stages.ingest.dataset import Dataset
from stages.select.keys import Keys


def takedown_plan(data: str, file: str, store: str) -> Plan:
    """The recipe that publishes a data set once more, in the same form, without the samples of a list.

    Raises DataError where there is no published data set.
    """
    root = resolve_version(data)
    if root is None:
        raise DataError(f"{data} is no published data set", "omnicurate ls lists those that there are")
    manifest = read_manifest(root)
    [written] = manifest.recipe["outputs"].values()
    flow = manifest.dataset
    recipe = {
        "seed": manifest.seed,
        "store": store,
        "flows": {flow: [{"ingest.dataset": {"path": root}}, {"select.keys": {"as": "takedown", "file": file}}]},
        "outputs": {flow: {**written, "pack": flow, "to": os.path.dirname(root)}},
    }
    return make_plan(f"the takedown of {data}", yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False))


def missing_keys(plan: Plan, file: str) -> list[str]:
    """Listed keys that no sample of the data set has or comes from. Raises DataError where that is all of them."""
    keys = Keys(file=file).listed()
    [dataset] = (step.stage for node in plan.nodes for step in node.steps if isinstance(step.stage, Dataset))
    data = open_dataset(dataset.root)
    with data.connect() as connection:
        sql = "SELECT key FROM samples UNION SELECT ancestor FROM lineage"
        sql = f"SELECT key FROM ({sql}) WHERE list_contains($keys, key)"
        there = set(query(connection, sql, {"keys": sorted(keys)}).column("key").to_pylist())
    if not there:
        raise DataError(f"none of the {len(keys):,} keys in {file} is in {data.root}", "nothing was published")
    return sorted(keys - there)


def holders(folder: str, file: str) -> list[dict[str, Any]]:
    """The published versions below a local folder that hold samples of a list, or what was made of them."""
    keys = sorted(Keys(file=file).listed())
    found = []
    for version in version_folders(folder):
        try:
            data = open_dataset(str(version))
            with data.connect() as connection:
                columns = {row[0] for row in connection.execute("DESCRIBE samples").fetchall()}
                made_of = "OR list_has_any(list_transform(lineage, lambda a: a.key), $keys)" * ("lineage" in columns)
                sql = f"SELECT count(*) AS n FROM samples WHERE list_contains($keys, key) {made_of}"
                [count] = query(connection, sql, {"keys": keys}).column("n").to_pylist()
        except (OmnicurateError, FileNotFoundError):  # an unfinished version, or a damaged one, is no published one
            continue
        if count:
            found.append({"path": str(version), "samples": count})
    return found
