"""filter.where: keep the rows for which an SQL expression holds."""

from __future__ import annotations

from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from schemas.columns import ANY, Columns, Types, path_type
from stages.base import Columnar, options
from stages.filter.expression import check_boolean, evaluate, nest, outermost, references, resolve


@options
class Where(Columnar):
    """Keep the rows for which a DuckDB expression over their columns is true.

    Fields of steps are reached with a dot: `score.wer <= 0.3 AND duration BETWEEN 1.5 AND 12`.
    """

    sql: str
    """The expression. A row where it is NULL, because a column has no value there, is dropped."""
    reason: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "filtered"
    """The word under which the dropped rows are counted."""

    @property
    def reasons(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one reason, which the recipe chooses."""
        return (self.reason,)

    def reads(self) -> Columns:
        """The columns that the expression names, and no other."""
        paths: dict[str, None] | list[str]
        paths = self.__dict__.get("_paths") or outermost(".".join(names) for names in references(self.sql))
        return Columns(dict.fromkeys(paths, ANY))

    def bind(self, types: Types) -> None:
        """Check the expression against the types upstream. Raises ValueError."""
        types = {"key": pa.string(), **types}
        paths = outermost(resolve(names, types) for names in references(self.sql))
        empty = {path: pa.array([], path_type(types, path)) for path in paths}
        # DuckDB cannot bind to a table without columns.
        check_boolean(self.sql, nest(empty or {"key": pa.array([], pa.string())}))
        object.__setattr__(self, "_paths", paths)  # frozen for users; a worker gets it with the stage

    def table(self, rows: pa.Table) -> pa.Table:
        """`_drop`: the reason where the expression is not true."""
        paths = list(self.reads().fields) or ["key"]
        keep = evaluate(self.sql, nest({path: rows.column(path) for path in paths}))
        drop = pc.if_else(keep, pa.scalar(None, pa.string()), pa.scalar(self.reason))
        return pa.table({"key": rows.column("key"), "_drop": drop})
