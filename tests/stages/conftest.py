"""What the tests of stages share: the quickstart's recordings, and the rows of a source."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.store import MediaReader, Store
from stages.base import New, Reject, Source

QUICKSTART = Path(__file__).parents[2] / "data" / "quickstart"


def as_rows(results: Iterable[New | Reject | pa.Table]) -> Iterator[New | Reject]:
    """Results row by row: tables as the rows that they stand for, without the nulls."""
    for result in results:
        if not isinstance(result, pa.Table):
            yield result
            continue
        for row in result.to_pylist():
            key = row.pop("key")
            yield New({name: value for name, value in row.items() if value is not None}, key=key)


@pytest.fixture(scope="session")
def quickstart() -> Path:
    """The folder with the real recordings."""
    if not (QUICKSTART / "transcripts.txt").exists():
        pytest.skip("data/quickstart is missing: run `make data`")
    return QUICKSTART


@pytest.fixture
def media(tmp_path: Path) -> MediaReader:
    """Reads the parts that sources give."""
    return MediaReader(Store(str(tmp_path / "store")))


@pytest.fixture
def rows() -> Callable[[Source], dict[str, New | Reject]]:
    """All results of a source by key; what the engine does when a result names no key is done here too."""

    def read(source: Source) -> dict[str, New | Reject]:
        found: dict[str, New | Reject] = {}
        for origin in source.origins():
            for result in as_rows(source.read(origin)):
                key = result.key if result.key is not None else origin.name
                assert key not in found, key
                if isinstance(result, Reject):
                    assert result.reason in source.reasons, result
                else:
                    assert result.columns.keys() <= source.writes().fields.keys(), result
                    assert set(result.parts) <= set(source.writes().parts), result
                found[key] = result
        return found

    return read
