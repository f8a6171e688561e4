"""select.rename: other names for columns."""

from __future__ import annotations

from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from schemas.columns import ANY, CANONICAL, RESERVED, Columns, Types, path_type
from stages.base import Columnar, options


@options
class Rename(Columnar):
    """Give columns new names at the top level: `columns: {text: heard.text}`. The old ones stay."""

    columns: Annotated[dict[str, str], Field(min_length=1)]
    """New name -> old one, which may be a field of a step (`heard.text`)."""

    def reads(self) -> Columns:
        """The old columns."""
        return Columns(dict.fromkeys(self.columns.values(), ANY))

    def writes(self) -> Columns:
        """The new columns; their types are known once `bind` has seen the old ones."""
        return Columns(self.__dict__.get("_types") or dict.fromkeys(self.columns, ANY), shared=True)

    def bind(self, types: Types) -> None:
        """Take over the types. Raises ValueError for a name that cannot be, or a canonical one of another type."""
        found: dict[str, pa.DataType] = {}
        for new, old in self.columns.items():
            if new in RESERVED or not new.isidentifier():
                raise ValueError(f"a column cannot be called {new!r}")
            kind = path_type({"key": pa.string(), **types}, old)
            if kind is None:
                continue  # the planner says so, with the nearest name
            canonical = CANONICAL.get(new, kind)
            numbers = pa.types.is_integer(kind) and not pa.types.is_string(canonical)
            if canonical != kind and not numbers:
                raise ValueError(f"the column {new!r} has the type {canonical} everywhere, but {old} is {kind}")
            found[new] = canonical
        object.__setattr__(self, "_types", found)  # frozen for users; a worker gets it with the stage

    def table(self, rows: pa.Table) -> pa.Table:
        """The old columns under their new names."""
        written = self.writes().fields
        arrays = {new: rows.column(old) for new, old in self.columns.items()}
        return pa.table({new: a if written[new] == ANY else pc.cast(a, written[new]) for new, a in arrays.items()})
