"""Writing a data set in another form: every sample is exported, or counted with the reason why not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.export.chat import Llava, OpenAI
from pipelines.export.form import Form, Options
from pipelines.export.interleaved import Interleaved
from pipelines.export.media import MediaFolder
from pipelines.export.rows import check_columns, rows
from pipelines.export.speech import Kaldi, Nemo
from pipelines.inspect.dataset import DataSet
from pipelines.view.media import Media
from schemas.errors import DataError, OmnicurateError, StoreError
from schemas.store import Store, is_local

FORMS: dict[str, type[Form]] = {
    "llava": Llava,
    "openai": OpenAI,
    "interleaved": Interleaved,
    "kaldi": Kaldi,
    "nemo": Nemo,
}
_REPORT = "export.json"  # beside the data: what they are; a folder without one is nobody's to replace


def export(
    data: DataSet, form: str, out: str, where: str | None = None, options: Options | None = None, force: bool = False
) -> dict[str, Any]:
    """Write the samples for which `where` holds to a new folder; how many were exported and skipped, and why.

    Raises DataError where nothing can be exported, StoreError where the folder cannot be written.
    """
    options = options or Options()
    given = {name: value for name, value in asdict(options).items() if value}
    for name in sorted(given.keys() - FORMS[form].takes):
        takers = ", ".join(other for other, cls in FORMS.items() if name in cls.takes)
        raise OmnicurateError(f"{form} has no use for --{name}", f"it is for: {takers}")
    check_columns(data, [value for value in given.values() if isinstance(value, str)])
    with _new_folder(out, force) as folder:
        with contextlib.ExitStack() as files:
            media = MediaFolder(folder, Media(data, "samples", Store(data.root)))
            writer = FORMS[form](folder, media, options, files)
            done, skipped = media.write(rows(data, where), writer.add)
            writer.finish()
        if not done:
            raise DataError(f"no sample of {data.root} can be exported as {form}", skips(skipped) or "there is none")
        source = {"dataset": data.manifest.dataset, "version": data.manifest.version} if data.manifest else {}
        report = {"format": form, **source, "where": where, "samples": done, "skipped": skipped}
        (folder / _REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return {**report, "path": out}


def skips(skipped: dict[str, int]) -> str:
    """`3 skipped: 2 no_text, 1 has_view`, or nothing."""
    whys = ", ".join(f"{count:,} {reason}" for reason, count in sorted(skipped.items()))
    return f"{sum(skipped.values()):,} skipped: {whys}" if skipped else ""


@contextlib.contextmanager
def _new_folder(out: str, force: bool) -> Iterator[Path]:
    """A temporary folder that gets its name when all is written; whatever fails before leaves nothing behind."""
    if not is_local(out):
        raise StoreError(f"{out} is no local folder", "write to a local one, then copy it")
    target = Path(os.path.abspath(out))
    if os.path.lexists(target):
        if not force:
            raise StoreError(f"{out} is there already", "choose another folder, or replace it with --force")
        if not (target / _REPORT).is_file():
            raise StoreError(f"{out} was not written by an export, so --force does not replace it", "choose another")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            old = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
