"""Looking at data sets: published ones, and any WebDataset tars of others."""

from __future__ import annotations

import contextlib
import glob
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import DataError, StoreError
from schemas.manifest import LATEST, MANIFEST, REJECTED_DIR, SHARDS_DIR, Manifest
from schemas.published import index_files, read_manifest, resolve_version, version_folders
from schemas.sample import Part
from schemas.store import Store, filesystem, is_local

_LINEAGE = "STRUCT(step VARCHAR, key VARCHAR, dataset VARCHAR)"


@dataclass(frozen=True)
class DataSet:
    """A data set that can be looked at: an index as a DuckDB relation, and where its bytes are.

    manifest None: foreign tars, indexed for the occasion. index: parquet files, or an Arrow table.
    """

    root: str
    manifest: Manifest | None
    index: Any
    shards: list[str]

    @property
    def name(self) -> str:
        """What the data set is called; a folder of foreign tars, or a tar, by its own name."""
        return self.manifest.dataset if self.manifest else os.path.basename(os.path.abspath(self.root))

    @contextlib.contextmanager
    def connect(self, older: DataSet | None = None) -> Iterator[Any]:
        """A DuckDB connection that sees `samples`, `rejects` and `lineage`, and can read and write nothing else.

        `lineage` has a row for each ancestor of a sample. `_samples` and `_rejects` are `samples` and `rejects` with
        two more columns, `_file` and `_row`: where a row stands. To ask for one row by them takes no scan.

        older: a data set whose samples are then seen as `older`.
        Raises StoreError, with the file's name, when a file of a published data set is missing or damaged.
        """
        import duckdb

        settings = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,  # or SQL could name the variables of this process
        }
        with self.explained(older), duckdb.connect(config=settings) as connection:  # type: ignore[arg-type]
            connection.execute("SET parquet_metadata_cache = true")  # every view and query asks for all footers again
            self._show(connection, "samples")
            if older is not None:
                older._show(connection, "older")
            if self.rejected:
                self._view(connection, "rejects", _rows_of(self.rejected))
            else:
                none = ", ".join(f"NULL::VARCHAR AS {name}" for name in ("flow", "step", "reason", "detail"))
                self._view(connection, "rejects", f"{none}, * FROM _samples LIMIT 0")
            ancestors = "key, a.step AS step, a.key AS ancestor, a.dataset AS dataset"
            if self.manifest is not None and "lineage" in self.manifest.columns:
                self._create(connection, "lineage", f"{ancestors} FROM (SELECT key, unnest(lineage) AS a FROM samples)")
            else:
                none = f"(SELECT NULL::VARCHAR AS key, NULL::{_LINEAGE} AS a)"
                self._create(connection, "lineage", f"{ancestors} FROM {none} LIMIT 0")
            files = self.files + (older.files if older else [])
            connection.execute(f"SET allowed_paths = {_quoted(files + [_canonical(path) for path in files])}")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection

    def _show(self, connection: Any, name: str) -> None:
        """Let a connection see the samples under a name."""
        if self.manifest is None:
            connection.register("indexed", self.index)
            connection.execute(f"CREATE TABLE foreign_{name} AS FROM indexed")
            connection.unregister("indexed")
            self._view(connection, name, f"0 AS _file, rowid AS _row, * FROM foreign_{name}")
            return
        if not is_local(self.root):
            connection.register_filesystem(filesystem(self.root)[0])
        self._view(connection, name, _rows_of(self.index))

    @contextlib.contextmanager
    def explained(self, older: DataSet | None = None) -> Iterator[None]:
        """Errors of DuckDB in this block become errors for people, which name the file that is at fault."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            # A view is missing where a file has no footer; what else a query cannot find is not in any file.
            deep = not isinstance(error, duckdb.CatalogException)
            damage = self._damage(deep) or (older._damage(deep) if older else None)
            if damage is not None:
                raise damage from None
            raise DataError(f"{self.root} cannot be queried: {_reason(error)}") from None

    def _view(self, connection: Any, name: str, select: str) -> None:
        """A view under its name, and with where its rows stand under `_name`."""
        self._create(connection, f"_{name}", select)
        self._create(connection, name, f"* EXCLUDE (_file, _row) FROM _{name}")

    def _create(self, connection: Any, view: str, select: str) -> None:
        import duckdb

        try:
            connection.execute(f"CREATE VIEW {view} AS SELECT {select}")
        except duckdb.Error:
            # Damaged files must not hide those that are well: a table without its view is an error once asked for.
            if self._damage(deep=False) is None:
                raise

    @property
    def rejected(self) -> list[str]:
        """The files with the rejects."""
        files = self.manifest.rejected_files if self.manifest else []
        return [f"{self.root}/{REJECTED_DIR}/{file.name}" for file in files]

    @property
    def files(self) -> list[str]:
        """The Parquet files of the samples and the rejects; none where the index is made for the occasion."""
        return [] if self.manifest is None else self.index + self.rejected

    def _damage(self, deep: bool) -> StoreError | None:
        """An error that names the first file that is missing or cannot be read; deep: all of it, not its footer."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        store = Store(self.root)
        for path in self.files:
            try:
                with store.open(path.removeprefix(f"{store.root}/")) as file:
                    parquet = pq.ParquetFile(file)
                    for _ in parquet.iter_batches() if deep else ():
                        pass
            except FileNotFoundError:
                return unusable(path, "is missing", self.root)
            except (pa.ArrowException, OSError):
                return unusable(path, "is damaged", self.root)
        return None


def query(connection: Any, sql: str, values: Any = None) -> Any:
    """The answer to one SELECT as an Arrow table. Raises DataError where the SQL is anything else, or wrong.

    values: what stands for the parameters ? or $name.
    """
    with _understood():
        return _selected(connection, sql, values).to_arrow_table()


def stream(connection: Any, sql: str, rows: int) -> Iterator[Any]:
    """The answer to one SELECT as Arrow record batches of at most so many rows, in order. Raises as `query` does."""
    with _understood():
        yield from _selected(connection, sql, None).to_arrow_reader(rows)


def _selected(connection: Any, sql: str, values: Any) -> Any:
    import duckdb

    statements = connection.extract_statements(sql)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise DataError("this is not one SELECT statement", "samples and rejects can be read, nothing else")
    return connection.sql(statements[0], params=values)


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Errors of DuckDB that are the query's own fault become a DataError."""
    import duckdb

    wrong = (
        duckdb.ParserException,
        duckdb.BinderException,
        duckdb.DataError,
        duckdb.NotSupportedError,
        duckdb.PermissionException,
    )
    try:
        yield
    except wrong as error:
        raise DataError(f"the SQL cannot be used: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What DuckDB says, without its drawing of where."""
    return str(error).split("\n\nLINE ")[0].strip()


def _canonical(path: str) -> str:
    """A path or URI as fsspec spells it: DuckDB asks for the name that it was given, then for what it found there."""
    if is_local(path):
        return path
    fs, stripped = filesystem(path)
    return str(fs.unstrip_protocol(stripped))


def _rows_of(files: list[str]) -> str:
    scan = f"read_parquet({_quoted(files)}, union_by_name = true)"
    return f"file_index AS _file, file_row_number AS _row, * FROM {scan}"


def unusable(path: str, what: str, root: str) -> StoreError:
    """An error about a file of a published data set that `is missing` or `is damaged`."""
    remedy = "run the recipe again" if what == "is missing" else "remove the file and run the recipe again"
    return StoreError(f"{path} {what}", f"`omnicurate verify {root}` finds everything that is wrong; {remedy}")


def _quoted(paths: list[str]) -> str:
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"


def open_dataset(path: str) -> DataSet:
    """A published data set (its folder or one of its versions), a tar, a glob or a folder of tars.

    Raises DataError when there is nothing of the kind.
    """
    if is_local(path) and not os.path.exists(path) and not glob.glob(path):
        raise DataError(f"there is nothing at {path}")
    root = resolve_version(path)
    if root is not None:
        store = Store(root)
        manifest = read_manifest(store.root)
        index = index_files(store.root, manifest)
        return DataSet(store.root, manifest, index, [f"{store.root}/{SHARDS_DIR}/{s.name}" for s in manifest.shards])
    tars = [path] if os.path.isfile(path) else sorted(glob.glob(path)) if "*" in path else sorted(_tars_below(path))
    if not tars:
        raise DataError(f"{path} is neither a published data set nor a place with tar files")
    return DataSet(path, None, index_tars(tars), tars)


def _tars_below(path: str) -> Iterator[str]:
    return (str(found) for found in Path(path).rglob("*.tar"))


def index_tars(tars: list[str]) -> Any:
    """An Arrow table over foreign tars: key, parts, shard, and the columns that their JSON members hold."""
    import pyarrow as pa

    from pipelines.frame import part_rows
    from stages.base import New
    from stages.ingest.tars import WebDataset

    rows: list[dict[str, Any]] = []
    parts: list[dict[str, Part]] = []
    problems: dict[str, int] = {}
    for tar in tars:
        source = WebDataset(path=tar, source="tar")
        for origin in source.origins():
            for result in source.read(origin):
                if isinstance(result, New):
                    rows.append({"key": result.key, "shard": os.path.basename(tar), **result.columns})
                    parts.append(dict(result.parts))
                else:
                    problems[result.reason] = problems.get(result.reason, 0) + 1
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    table = pa.table({**columns, "parts": part_rows(parts)} if rows else {"key": pa.array([], pa.string())})
    return table.replace_schema_metadata({"problems": json.dumps(problems)})


def _column(values: list[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else json.dumps(v, ensure_ascii=False) for v in values])


def versions(path: str) -> list[dict[str, Any]]:
    """The versions at or below a folder: published (with which is the latest), damaged and unfinished ones."""
    found = []
    for folder in version_folders(path):
        latest = folder.parent / LATEST
        row: dict[str, Any] = {
            "dataset": os.path.normpath(os.path.join(path, os.path.relpath(folder.parent, os.path.abspath(path)))),
            "version": folder.name,
            "state": "unfinished",
            "latest": latest.exists() and latest.resolve() == folder.resolve(),
        }
        try:
            manifest = read_manifest(str(folder))
            row |= {
                "state": "published",
                "samples": manifest.samples,
                "rejected": manifest.rejected,
                "shards": len(manifest.shards),
                "bytes": manifest.bytes,
                "published": (folder / MANIFEST).stat().st_mtime,
            }
        except FileNotFoundError:
            pass
        except StoreError:
            row["state"] = "damaged"
        found.append(row)
    return found
