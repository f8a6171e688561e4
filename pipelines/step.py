"""A step of a recipe with its stage built: what planner, nodes and workers pass on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.columns import CANONICAL
from stages.base import Source, Stage


@dataclass(frozen=True)
class Step:
    """A step with its stage built and checked."""

    flow: str
    name: str
    use: str
    stage: Stage
    spec: Mapping[str, Any]
    """What makes the step's output what it is: use, version, options, model identity."""

    def columns_written(self) -> dict[str, pa.DataType]:
        """The step's columns as they stand at the top level afterwards."""
        written = self.stage.writes()
        if written.shared or isinstance(self.stage, Source):
            return dict(written.fields)
        if written.own:
            return {self.name: pa.struct(list(written.fields.items()))}
        shared = {name: kind for name, kind in written.fields.items() if name in CANONICAL}
        own = [(name, kind) for name, kind in written.fields.items() if name not in CANONICAL]
        return {**shared, **({self.name: pa.struct(own)} if own else {})}
