"""Writing a queue: one task for each sample that somebody is to look at, with its media beside it."""

from __future__ import annotations

import heapq
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias
from xml.sax.saxutils import quoteattr

from pipelines.export.jsonfile import JsonLines, JsonList
from pipelines.export.media import MediaFolder
from pipelines.export.rows import Row, check_columns, column_types, condition, rows, schema
from pipelines.inspect.dataset import DataSet, query, stream
from pipelines.view.media import Media
from schemas.digest import draws
from schemas.errors import DataError, StoreError
from schemas.sample import KINDS
from schemas.store import Store, is_local

Format: TypeAlias = Literal["jsonl", "label-studio"]
_SHOWN = ("text", "caption", "messages")
_TAKEN = ("key", "dataset", "version", "field", "text", "context", "scores", "decision", "edited", "note")


def write_queue(
    data: DataSet,
    out: str,
    where: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    form: Format = "jsonl",
    text: str | None = None,
    media: str | None = None,
) -> dict[str, Any]:
    """Write tasks to a new file and their media to a new folder; how many were written and skipped, and why.

    sample: a random choice of so many. text: dotted path of the text that may be edited; `text` or `caption` when left
    out. media: the folder, below that of the file. Raises StoreError where these cannot be written.
    """
    target, folder = _places(out, media)
    if text is not None:
        check_columns(data, [text])
    else:
        text = next((name for name in ("text", "caption") if name in column_types(data)), None)
    chosen = None if sample is None else _draw(data, where, sample, seed)
    names = _media_names(data, where) if form == "label-studio" else {}
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        with open(temporary / target.name, "w", encoding="utf-8") as file:
            copies = MediaFolder(temporary, Media(data, "samples", Store(data.root)), folder)
            writer = JsonList(file) if form == "label-studio" else JsonLines(file)

            def add(row: Row) -> None:
                task = _task(data, row, text, copies)
                writer.add(_for_label_studio(task, names) if form == "label-studio" else task)

            picked = rows(data, where) if chosen is None else (row for row in rows(data, where) if row.key in chosen)
            done, skipped = copies.write(picked, add)
            writer.finish()
        if not done:
            raise DataError(f"no sample of {data.root} is left to look at", "try another --where")
        config = target.with_suffix(".xml").name
        if form == "label-studio":
            (temporary / config).write_text(labeling_config(names), encoding="utf-8")
        (target.parent / folder).parent.mkdir(parents=True, exist_ok=True)
        for name in (folder, config, target.name):  # the queue last: when it is there, all is
            if (temporary / name).exists():
                (temporary / name).rename(target.parent / name)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {"tasks": done, "skipped": skipped, "path": out}


def _places(out: str, media: str | None) -> tuple[Path, str]:
    """The file, and the folder for media as seen from that of the file."""
    if not is_local(out):
        raise StoreError(f"{out} is no local file", "write to a local one, then copy it")
    target = Path(os.path.abspath(out))
    folder = target.with_name(f"{target.stem}-media") if media is None else Path(os.path.abspath(media))
    relative = os.path.relpath(folder, target.parent)
    if relative.split(os.sep)[0] in ("..", "."):
        raise StoreError(f"{folder} is not below {target.parent}", "media lie below the folder of their queue")
    for path in (target, folder, target.with_suffix(".xml")):
        if os.path.lexists(path):
            raise StoreError(f"{path} is there already", "choose another name, or remove it")
    return target, relative.replace(os.sep, "/")


def _draw(data: DataSet, where: str | None, count: int, seed: int) -> set[str]:
    """The keys with the smallest draws: a larger sample holds all that a smaller one held."""

    def drawn() -> Iterator[tuple[int, str]]:
        with data.connect() as connection:
            for batch in stream(connection, f"SELECT key FROM samples{condition(where)}", 10_000):
                keys = batch.column(0).to_pylist()
                yield from zip(draws(seed, "review", keys).tolist(), keys, strict=True)

    return {key for _, key in heapq.nsmallest(count, drawn())}


def _task(data: DataSet, row: Row, field: str | None, copies: MediaFolder) -> dict[str, Any]:
    context = {name: row.value(name) for name in _SHOWN if name != field and row.value(name) is not None}
    if "messages" in context:
        context["messages"] = _parsed(context["messages"])
    return {
        "key": row.key,
        "dataset": data.name,
        "version": data.manifest.version if data.manifest else None,
        "field": field,
        "text": row.text(field) if field and row.value(field) is not None else None,
        "context": context,
        "scores": {name: value for name, value in row.scalars() if not isinstance(value, str)},
        "media": {part.name: copies.copy(row.key, row.whole(KINDS[part.format], part.name)) for part in row.media()},
        "decision": None,
        "edited": None,
        "note": "",
    }


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _for_label_studio(task: dict[str, Any], names: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """A task of Label Studio: every one has every field that the labeling interface shows."""
    shown = {name: task[name] for name in ("key", "dataset", "version", "field")}
    texts = {name: json.dumps(task[name], ensure_ascii=False) for name in ("context", "scores")}
    media = {variable: task["media"].get(part, "") for part, (variable, _) in names.items()}
    text = task["text"] or ""
    guess = {"from_name": "edited", "to_name": "text", "type": "textarea", "value": {"text": [text]}}
    predictions = [{"model_version": task["version"] or "", "result": [guess]}]
    return {"data": {**shown, "text": text, **texts, **media}, "predictions": predictions}


def _media_names(data: DataSet, where: str | None) -> dict[str, tuple[str, str]]:
    """Part -> the variable that Label Studio knows it by, and its kind."""
    if "parts" not in schema(data).names:
        return {}
    with data.connect() as connection:
        inner = f"SELECT unnest(parts) AS part FROM samples{condition(where)}"
        found = query(connection, f"SELECT DISTINCT part.name, part.format FROM ({inner}) ORDER BY ALL").to_pylist()
    names: dict[str, tuple[str, str]] = {}
    taken = set(_TAKEN)
    for row in found:
        if row["format"] in KINDS and row["name"] not in names:
            variable = re.sub(r"\W", "_", row["name"])
            while variable in taken:
                variable += "_"
            taken.add(variable)
            names[row["name"]] = variable, KINDS[row["format"]]
    return names


def labeling_config(names: dict[str, tuple[str, str]]) -> str:
    """The labeling interface that goes with the tasks: media, the text to correct, and the three decisions."""
    tags = {"image": "Image", "audio": "Audio", "video": "Video"}
    media = "".join(
        f"  <{tags[kind]} name={quoteattr(variable)} value={quoteattr(f'${variable}')}/>\n"
        for variable, kind in names.values()
    )
    return f"""\
<View>
  <Header value="$key"/>
{media}  <Text name="text" value="$text"/>
  <Text name="context" value="$context"/>
  <Text name="scores" value="$scores"/>
  <Choices name="decision" toName="text" choice="single-radio" required="true" showInline="true">
    <Choice value="accept" hotkey="a"/>
    <Choice value="edit" hotkey="e"/>
    <Choice value="reject" hotkey="r"/>
  </Choices>
  <TextArea name="edited" toName="text" editable="true" maxSubmissions="1" rows="4"/>
  <TextArea name="note" toName="text" editable="true" maxSubmissions="1" placeholder="note"/>
</View>
"""
