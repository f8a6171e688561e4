"""The files of one sample, in a folder or in a tar: which are columns, and which are parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schemas.sample import Part, part_name
from stages.base import New, Reject
from stages.ingest.fields import Fields, extra_of
from stages.ingest.jsonl import parse_object

REASONS = ("broken_json", "not_utf8", "not_an_object", "lone_surrogate", "duplicate_part")


def is_text(extension: str) -> bool:
    """Whether a file of that extension (all after the first dot) is read into columns."""
    return extension.rsplit(".", 1)[-1] in ("json", "txt", "cls")


def sample_of(
    files: Mapping[str, Part], read: Callable[[Part], bytes], fields: Fields, text: str, key: str
) -> New | Reject:
    """A sample from its files by extension; the parts given have no name yet.

    `json` holds fields; `txt` (or, where there is none, `cls`) is the column `text` names, and a field of that name
    with another value goes into `extra`; other texts (`en.txt`) go there under their extension; everything else is a
    part.
    """
    row: dict[str, Any] = {}
    parts: dict[str, Part] = {}
    texts: dict[str, Any] = {}
    for extension, part in files.items():
        if not is_text(extension):
            name = part_name(extension, parts)
            if name in parts:
                return Reject("duplicate_part", name, key)
            parts[name] = part._replace(name=name)
            continue
        data = read(part)
        if extension.rsplit(".", 1)[-1] == "json":
            value = parse_object(data)
            if type(value) is Reject:
                return value._replace(key=key, detail=extension)
            if extension == "json":
                row = value  # type: ignore[assignment]
            else:
                texts[extension] = value
            continue
        try:
            texts[extension] = data.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            return Reject("not_utf8", extension, key)
    if row.get("key") == key:
        del row["key"]  # our own shards say it once more
    main = "txt" if "txt" in texts else "cls"
    if main in texts:
        texts[text] = texts.pop(main)
        if row.get(text) not in (None, texts[text]):
            extra = extra_of(row.get("extra"))
            free = text in fields.kinds and text not in extra
            row["extra"] = {**extra, text if free else f"json.{text}": row[text]}
    return New(fields.columns({**row, **texts}), parts=parts, key=key)
