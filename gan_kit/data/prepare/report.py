"""report.html and data_card.md of a prepared data set, with contact sheets and a Croissant description.

The same data set gives the same bytes.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_kit.data.prepare.card import Summary, data_card, title
from gan_kit.data.prepare.croissant import croissant
from gan_kit.data.prepare.page import Page, Place, places_of
from gan_kit.data.prepare.tally import Reservoir, Row, Tally, read_rows
from gan_kit.files import write_whole, written_whole

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["write_report"]

THUMB = (192, 128)  # pixels, of a picture in the report at the most
LARGEST, OTHERS = 6, 12  # clusters shown
MEMBERS = 8  # of one cluster
PAIRS = 36  # doubtful pairs shown, all reasons together
SHEET_COLUMNS = 8


def write_report(out: Path, thumbnail: Callable[[str, str], bytes | None], seed: int = 0) -> list[Path]:
    """Write data_card.md, report.html, croissant.json, and the contact sheets samples.png and review.png.

    out: a data set's folder with dataset.json, manifest.jsonl and, perhaps, review.jsonl
    thumbnail: (name, part) -> a PNG of that sample, kept or not, or None where there is none
    seed: which examples are shown

    Reads the manifest twice, a row at a time. -> the files written; a sheet without pictures is not
    """
    index = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    tally = Tally(len(index["class_names"]), seed)
    for row in read_rows(out / "manifest.jsonl"):
        tally.add(row)
    clusters = tally.clusters()
    review, pairs = _doubtful(out / "review.jsonl", seed)
    alike = clusters.examples(clusters.several, LARGEST, OTHERS, seed)
    conflicts = clusters.examples(clusters.conflicts, LARGEST, OTHERS, seed)
    wanted = {(row["name"], row["part"]) for row in tally.examples()} | set(chain.from_iterable(map(places_of, pairs)))
    members, order = _looked_up(out / "manifest.jsonl", {*conflicts, *alike}, wanted)
    # in the manifest's order: neighbours there are neighbours on the disk
    pictures = {place: _shrunk(thumbnail(*place)) for place in sorted(order, key=order.__getitem__)}

    summary = Summary(index, tally, clusters, review)
    page = Page(summary, pictures)
    name, about = title(index), f"{summary.kept:,} {summary.things}, prepared by {index.get('created_by', 'gan_kit')}"
    write_whole(out / "data_card.md", data_card(summary))
    write_whole(out / "report.html", page.html([members[i] for i in alike], [members[i] for i in conflicts], pairs))
    write_whole(out / "croissant.json", json.dumps(croissant(out, index, name, about), indent=1) + "\n")
    written = [out / "data_card.md", out / "report.html", out / "croissant.json"]

    lines = [[(row["name"], row["part"]) for row in found.items] for found in tally.kept.values()]
    if not index["class_names"]:
        lines = _folded(lines[0], SHEET_COLUMNS)
    couples = [list(chain(*line)) for line in _folded(list(map(places_of, pairs)), max(1, math.isqrt(len(pairs))))]
    for file, places, together in (("samples.png", lines, 1), ("review.png", couples, 2)):
        (out / file).unlink(missing_ok=True)
        if sheet := _sheet([[pictures.get(place) for place in line] for line in places], together):
            with written_whole(out / file) as part:
                part.write_bytes(sheet)
            written.append(out / file)
    return written


def _doubtful(path: Path, seed: int) -> tuple[Counter[str], list[Row]]:
    """How many pairs there are of each reason, and some of each."""
    pairs: dict[str, Reservoir[Row]] = {}
    for row in read_rows(path):
        pairs.setdefault(row["reason"], Reservoir(PAIRS, f"{seed} {row['reason']}")).add(row)
    examples = [pair for reason in sorted(pairs) for pair in pairs[reason].items[: PAIRS // len(pairs)]]
    return Counter({reason: pairs[reason].seen for reason in sorted(pairs)}), examples


def _looked_up(manifest: Path, ids: set[int], wanted: set[Place]) -> tuple[dict[int, list[Row]], dict[Place, int]]:
    """Rows of these clusters, MEMBERS at the most but always with the one that was kept; and where pictures lie."""
    members: dict[int, list[Row]] = {i: [] for i in ids}
    order: dict[Place, int] = {}
    for number, row in enumerate(read_rows(manifest)):
        place = (row["name"], row.get("part", ""))
        if place in wanted:
            order[place] = number
        cluster = row.get("cluster")
        if cluster in members:
            rows = members[cluster]
            if len(rows) < MEMBERS:
                rows.append(row | {"number": number})
            elif row["status"] == "kept" and all(r["status"] != "kept" for r in rows):
                rows[-1] = row | {"number": number}
    for rows in members.values():
        rows.sort(key=lambda r: (r["status"] != "kept", r["number"]))
        order |= {(r["name"], r.get("part", "")): r["number"] for r in rows}
    return members, order


def _shrunk(png: bytes | None) -> bytes | None:
    """At most THUMB large, as PNG where there are few colours, else as JPEG."""
    from PIL import Image as pil

    if png is None:
        return None
    with pil.open(io.BytesIO(png), formats=["PNG"]) as opened:
        image = opened.convert("RGB")
    image.thumbnail(THUMB, pil.Resampling.LANCZOS)
    drawn = image.getcolors(256) is not None
    return _encoded(image, "PNG") if drawn else _encoded(image, "JPEG", quality=88)


def _sheet(rows: Sequence[Sequence[bytes | None]], together: int) -> bytes | None:
    """PNG of rows of pictures in cells of one size, `together` of them side by side; None without a picture."""
    from PIL import Image as pil

    images = [[pil.open(io.BytesIO(data)) if data else None for data in line] for line in rows]
    if not (there := [image for line in images for image in line if image]):
        return None
    width, height = max(i.width for i in there) + 2, max(i.height for i in there) + 2
    gap = 10 if together > 1 else 0
    columns = max(map(len, images))
    sheet = pil.new("RGB", (columns * width + columns // together * gap, len(rows) * (height + gap)), "white")
    for i, line in enumerate(images):
        for j, image in enumerate(line):
            if image:
                left, top = j * width + j // together * gap + gap // 2, i * (height + gap) + gap // 2
                sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
    return _encoded(sheet, "PNG")


def _encoded(image: Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _folded(items: list[Any], columns: int) -> list[list[Any]]:
    return [items[i : i + columns] for i in range(0, len(items), columns)]
