"""Garbage collection: what no recipe's last run used and no run may still need leaves the store.

Published data sets are self-contained and are never touched.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.runs import all_runs
from schemas.digest import fingerprint
from schemas.errors import StoreError
from schemas.store import Found, Store, is_local

GRACE = 24 * 3600.0  # seconds
_SWEPT = ("commits/", "media/", ".tmp/", ".crumbs/")


def pin(store: Store, recipe: str, commits: Iterable[str], media: Iterable[str]) -> None:
    """Keep what the last run of a recipe used."""
    where = os.path.abspath(recipe) if is_local(recipe) else recipe
    body = {"recipe": where, "commits": sorted(commits), "media": sorted(media)}
    store.put(f"pins/{fingerprint(where)[:16]}.json", json.dumps(body).encode())


@dataclass(frozen=True)
class Sweep:
    """What a collection found."""

    garbage: list[Found]
    kept: int
    kept_bytes: int
    young: int
    """Of what is kept: unused, but younger than the grace period."""
    young_bytes: int
    recipes: list[str]


def sweep(store: Store, grace: float = GRACE, delete: bool = False) -> Sweep:
    """Find (and delete) objects that no pin names and that are older than the grace period (seconds).

    Raises StoreError while a run on the store is alive, and where there is no store.
    """
    if not store.exists("commits"):  # any folder may have one called `media`
        raise StoreError(f"there is no store with results at {store.root}", "--store takes a recipe's `store`")
    busy = [run.data["id"] for run in all_runs(store) if run.alive]
    if busy and delete:
        raise StoreError(f"the run {busy[0]} is using the store", "wait for it, or cancel it first")
    pinned: set[str] = set()
    recipes = []
    for found in store.list("pins"):
        body = json.loads(store.read(found.path))
        recipes.append(body["recipe"])
        pinned.update(f"commits/{fp[:2]}/{fp}.parquet" for fp in body["commits"])
        pinned.update(body["media"])
    now = time.time()
    garbage, kept, kept_bytes, young, young_bytes = [], 0, 0, 0, 0
    for found in store.list():
        if not found.path.startswith(_SWEPT):
            continue
        used = found.path in pinned
        if used or now - found.mtime < grace:
            kept += 1
            kept_bytes += found.size
            young += not used
            young_bytes += 0 if used else found.size
        else:
            garbage.append(found)
    if delete:
        for found in garbage:
            store.delete(found.path)
    return Sweep(garbage, kept, kept_bytes, young, young_bytes, sorted(recipes))
