"""Tables of labels as people have them: CSV of any delimiter and encoding, JSON lines, one JSON value."""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_kit.data.prepare.scan import shown
from gan_kit.types import UserError

__all__ = ["Row", "plain_path", "read_table"]

HEADERS = {
    "file": (
        "file", "file_name", "filename", "filepath", "file_path", "path", "relative_path", "image_path", "audio_path",
        "image", "img", "image_name", "image_id", "audio", "audio_file", "wav", "slice_file_name", "name", "fname",
        "id",
    ),
    "label": ("label", "labels", "class", "class_name", "classname", "category", "target", "y", "digit", "class_id"),
    "split": ("split", "set", "subset", "partition"),
}  # fmt: skip
NOTHING = {"", "nan", "<na>"}  # "none" and "na" may well be classes


@dataclass(frozen=True)
class Row:
    """line: in the table, from 1, for messages"""

    file: str
    label: str | None
    split: str | None
    line: int


def plain_path(name: str) -> str:
    """One spelling of a path: "/" between parts, no "./", accents composed (macOS writes them apart)"""
    name = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
    root = "/" if name.startswith("/") else ""
    return root + "/".join(part for part in name.split("/") if part not in ("", "."))


def read_table(path: Path, columns: Mapping[str, str]) -> list[Row]:
    """Rows of a table of files and labels.

    CSV with , ; tab or | between, with a header or just two columns; JSON lines of objects; or one JSON value: a list
    of objects, or {file: label}. UTF-8 with or without BOM, UTF-16 with, else Windows-1252.

    columns: names of the "file", "label" and "split" columns; those not given are found by common names
    Raises UserError for a table that is empty, damaged, or has no such columns.
    """
    if unknown := columns.keys() - HEADERS.keys():
        raise UserError(f"no column {sorted(unknown)} to name; have {', '.join(HEADERS)}")
    text = _text(path)
    if not text.strip():
        raise UserError(f"{shown(str(path))} is empty; set labels to a table of files and labels")
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        records = _from_json(path, text)
    else:
        records = _from_csv(path, text, columns)
    if not records:
        raise UserError(f"{shown(str(path))} has no rows; set labels to a table of files and labels")
    return list(_rows(path, records, columns))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{shown(str(path))} cannot be read ({e.strerror or e}); let this user read it") from e
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


Records = list[tuple[int, dict[str, Any]]]  # (line, column -> value)


def _from_json(path: Path, text: str) -> Records:
    try:
        whole = json.loads(text)
    except RecursionError as e:
        raise UserError(f"{shown(str(path))} nests too deep for a table; write it as CSV") from e
    except ValueError:
        return [(n, _object(path, n, line)) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if isinstance(whole, dict):
        names = {str(name).lower() for name in whole}
        if names & set(HEADERS["file"]) and names & set(HEADERS["label"]):  # JSON lines, of which there is one
            return [(1, whole)]
        return [(n, {"file": name, "label": label}) for n, (name, label) in enumerate(whole.items(), 1)]
    if isinstance(whole, list) and all(isinstance(item, dict) for item in whole):
        return list(enumerate(whole, 1))
    raise UserError(f"{shown(str(path))} is no list of objects and no object of file: label; write it as CSV")


def _object(path: Path, n: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{shown(str(path))}, line {n} is no JSON ({e}); mend or remove it") from e
    if not isinstance(value, dict):
        raise UserError(f'{shown(str(path))}, line {n} is no object; write lines as {{"file": …, "label": …}}')
    return value


def _from_csv(path: Path, text: str, columns: Mapping[str, str]) -> Records:
    text = text.replace("\0", "")  # the reader stops at them
    lines = text.splitlines()[:20]
    delimiter = max(",;\t|", key=lambda d: (min(line.count(d) for line in lines if line.strip()), d == ","))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        table = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as e:
        raise UserError(f"{shown(str(path))}, line {reader.line_num}: {e}; write it as plain CSV") from e
    table = [(n, row) for n, row in table if any(row)]
    if not table:
        raise UserError(f"{shown(str(path))} is empty; set labels to a table of files and labels")
    header = table[0][1]
    lower = [name.lower() for name in header]
    if not columns and not set(lower) & {*HEADERS["file"], *HEADERS["label"]} and len(header) == 2:
        return [(n, dict(zip(("file", "label"), row, strict=False))) for n, row in table]
    for n, row in table[1:]:
        if len(row) > len(header):
            raise UserError(
                f"{shown(str(path))}, line {n} has {len(row)} columns and the header {len(header)}; "
                "put names with commas in quotes"
            )
    return [(n, dict(zip(header, row, strict=False))) for n, row in table[1:]]


def _rows(path: Path, records: Records, columns: Mapping[str, str]) -> Iterable[Row]:
    have = list(dict.fromkeys(str(name) for _, record in records for name in record))
    which = {role: _column(path, role, have, columns) for role in HEADERS}
    for n, record in records:
        file, label, split = (record.get(name) if (name := which[role]) else None for role in HEADERS)
        if isinstance(label, list | dict):
            raise UserError(f"{shown(str(path))}, line {n}: several labels for one file; give one")
        if not isinstance(file, str | int) or not str(file).strip():
            raise UserError(f"{shown(str(path))}, line {n} names no file; mend or remove it")
        yield Row(str(file), _word(label), _word(split), n)


def _column(path: Path, role: str, have: list[str], columns: Mapping[str, str]) -> str | None:
    if role in columns:
        if columns[role] not in have:
            raise UserError(f"{shown(str(path))} has no column {columns[role]!r}; it has {', '.join(have)}")
        return columns[role]
    lower = {name.lower(): name for name in reversed(have)}
    found = next((lower[name] for name in HEADERS[role] if name in lower), None)
    if found is None and role != "split":
        raise UserError(
            f"{shown(str(path))} has no column that is known as the {role} (it has {', '.join(map(shown, have))}); "
            f"name it in columns, e.g. columns={{{role}: NAME}}"
        )
    return found


def _word(value: Any) -> str | None:
    """A label as a class name; None for what means nothing"""
    if value is None:
        return None
    if isinstance(value, float) and not math.isnan(value) and value == int(value):
        value = int(value)
    word = unicodedata.normalize("NFC", str(value).strip())
    return None if word.lower() in NOTHING else word
