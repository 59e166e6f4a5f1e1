"""The report of a prepared data set: what it counts, what it shows, and that strangers' names stay text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import random
import re
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gan_kit.data.prepare.card import shown
from gan_kit.data.prepare.report import write_report
from gan_kit.data.prepare.tally import BINS, Clusters, Fact, Grouped, Histogram, Reservoir, Tally

HOSTILE = [
    "<script>alert(1)</script>.jpg",
    '"><img src=x onerror=alert(1)>.png',
    "&lt;b&gt;.png",
    "caf\udce9.jpg",
    "\u202egpj.exe",
    "a\nb\r\x00\x1b[31m.jpg",
    "x" * 4096,
    "| a | `b` | [c](javascript:d) | </style> |.jpg",
    "\ud83d lone.png",
    "猫 😀.png",
]


def png(seed: int, side: int = 24) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def thumbnail(name: str, part: str) -> bytes | None:
    return png(len(name) + len(part))


def row(name: str, status: str = "kept", **more) -> dict:
    base = {"name": name, "part": "", "status": status, "reason": "", "sha256": "0" * 64}
    if status in ("broken", "refused"):
        return base | more
    base |= {"label": 0, "split": "train" if status == "kept" else None, "row": 0, "actions": [], "flags": []}
    return base | {"facts": {}, "quality": 1.0, "duplicate_of": "", "cluster": 0} | more


def data_set(
    out: Path, rows: Iterable[dict], review: Iterable[dict] = (), classes: Iterable[str] = ("cat", "dog"), **more
) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with (out / "manifest.jsonl").open("w", encoding="utf-8") as file:
        for r in rows:
            counts[r.get("split") or ""] += 1
            file.write(json.dumps(r) + "\n")
    (out / "review.jsonl").write_text("".join(json.dumps(r) + "\n" for r in review))
    index = {
        "format": 1, "domain": "image", "shape": [3, 8, 8], "dtype": "uint8", "class_names": list(classes),
        "counts": {split: counts[split] for split in ("train", "val", "test")},
        "shards": {"train": [{"file": "train-00000.npy", "rows": counts["train"], "sha256": "1" * 64}]},
        "settings": {"seed": 0, "drop": []}, "sha256": "2" * 64, "created_by": "gan_kit 0.1.0",
        "source": "/somewhere/photos", **more,
    }  # fmt: skip
    (out / "dataset.json").write_text(json.dumps(index))
    return out


def mixed(n: int = 120) -> list[dict]:
    rng = random.Random(0)
    rows = []
    for i in range(n):
        label = i % 2
        more = {"label": label, "cluster": i, "row": i, "split": ("train", "train", "val", "test")[i % 4]}
        facts = {"width": 64 + i, "mode": "RGB" if i % 3 else "L", "brightness": rng.random(), "frames": 1}
        rows.append(row(f"c{label}/{i}.jpg", facts=facts, actions=["turned by EXIF"] if i % 5 == 0 else [], **more))
        if i % 10 == 0:
            of = {"cluster": i, "duplicate_of": f"c{label}/{i}.jpg", "label": (label + (i % 20 == 0)) % 2}
            rows.append(row(f"c{label}/copy {i}.jpg", "duplicate", reason="near" if i % 20 else "exact", **of))
        if i % 12 == 0:
            rows.append(row(f"c{label}/dark{i}.jpg", "dropped", reason="dark", flags=["dark"], cluster=1000 + i))
        if i % 15 == 0:
            rows.append(row(f"c{label}/cut{i}.jpg", "broken", reason=f"{i} bytes are missing of 640"))
    return [*rows, row("evil.zip", "refused", reason="an archive within an archive")]


class Seen(HTMLParser):
    """Tags, attributes and text; every tag that needs an end has one."""

    EMPTY = {"meta", "img", "br"}

    def __init__(self, page: str):
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.words)


def page_of(out: Path) -> Seen:
    return Seen((out / "report.html").read_text(encoding="utf-8"))


# What it tells


def test_every_row_is_counted(tmp_path: Path) -> None:
    rows = mixed()
    out = data_set(tmp_path / "out", rows, set_aside={"system file": 3})
    written = write_report(out, thumbnail)
    assert {p.name for p in written} == {"data_card.md", "report.html", "croissant.json", "samples.png"}
    page, card = page_of(out).text, (out / "data_card.md").read_text()
    cells = re.sub(r"\s+", " ", page)
    assert "3 system file" in cells
    for what, count in {"files found": len(rows), "refused": 1, "broken": 8, "left out": 10, "kept": 120}.items():
        assert f"{what} {count}" in cells
        assert f"| {what} | {count} |" in card
    assert "exact duplicates 6" in cells
    assert "near duplicates 6" in cells
    assert "labels of several classes: 6 clusters" in cells
    assert "… bytes are missing of 640" in cells
    assert "an archive within an archive" in cells
    assert "turned by EXIF" in cells
    assert "frames 1" in cells
    assert "| cat | 30 | 30 | 0 |" in card  # even numbers: train and val
    for heading in ("Composition", "Collection", "Cleaning", "Splits", "Known limits", "Licence"):
        assert f"\n## {heading}\n" in card


def test_parts_of_one_file_are_one_file() -> None:
    tally = Tally(0)
    for name, part in [("a.gif", "frame 1"), ("a.gif", "frame 2"), ("b.png", "")]:
        tally.add(row(name, part=part))
    assert (tally.files, tally.samples, tally.status["kept"]) == (2, 3, 3)


def test_a_cluster_shows_the_kept_one_first_with_its_copies(tmp_path: Path) -> None:
    copies = [row(f"copy{i}.jpg", "duplicate", reason="near", cluster=0, duplicate_of="best.jpg") for i in range(30)]
    out = data_set(tmp_path / "out", [*copies, row("best.jpg", cluster=0), row("other.jpg", cluster=31)])
    asked = []

    def thumb(name: str, part: str) -> bytes:
        asked.append(name)
        return png(1)

    write_report(out, thumb)
    page = page_of(out).text
    first = page.index("Duplicates")
    assert page.index("best.jpg", first) < page.index("copy0.jpg", first)
    assert "and 23 more" in page
    assert len(asked) == len(set(asked)) == 9
    assert asked == sorted(asked, key=lambda n: [*(r["name"] for r in copies), "best.jpg", "other.jpg"].index(n))


def test_review_pairs_are_counted_and_put_on_a_sheet(tmp_path: Path) -> None:
    pairs = [{"a": "c0/0.jpg", "b": f"c{i % 2}/{i}.jpg", "reason": "crop" if i % 2 else "flat"} for i in range(1, 100)]
    out = data_set(tmp_path / "out", mixed(), pairs)
    assert out / "review.png" in write_report(out, thumbnail)
    assert "99 pairs for review" in page_of(out).text
    with Image.open(out / "review.png") as sheet:
        assert sheet.width > 6 * 2 * 24
    data_set(out, mixed())
    assert out / "review.png" not in write_report(out, thumbnail)
    assert not (out / "review.png").exists()


def test_without_labels_review_list_or_pictures(tmp_path: Path) -> None:
    out = data_set(tmp_path / "out", [row(f"{i}.jpg", label=None, cluster=i) for i in range(5)], classes=())
    (out / "review.jsonl").unlink()
    assert {p.name for p in write_report(out, lambda *_: None)} == {"data_card.md", "report.html", "croissant.json"}
    page = page_of(out)
    assert page.tags["img"] == 0
    assert "no picture" in page.text
    assert "Classes" not in page.text
    assert "No labels." in (out / "data_card.md").read_text()


def test_an_empty_manifest_is_told_too(tmp_path: Path) -> None:
    out = data_set(tmp_path / "out", [])
    write_report(out, thumbnail)
    assert "the train split is empty" in page_of(out).text
    assert "no training sample of cat, dog" in (out / "data_card.md").read_text()


def test_thousands_of_classes_and_reasons_stay_readable(tmp_path: Path) -> None:
    rows = [row(f"{i}.jpg", label=i % 3000, cluster=i) for i in range(4000)]
    rows += [row(f"x{i}.jpg", "broken", reason="".join(random.Random(i).choices("abcdef", k=9))) for i in range(3000)]
    out = data_set(tmp_path / "out", rows, classes=[f"class {i}" for i in range(3000)])
    write_report(out, thumbnail)
    assert (out / "report.html").stat().st_size < 1_000_000
    assert (out / "data_card.md").stat().st_size < 20_000
    assert "of 3,000 classes" in page_of(out).text


# Safety and form


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_text_and_nothing_else(name: str, tmp_path: Path) -> None:
    rows = [
        row(name, cluster=0, part=name, flags=[name], facts={name: name}, actions=[name]),
        row(name, "duplicate", cluster=0, label=1, reason=name, duplicate_of=name),
        row(name, "dropped", cluster=2, reason=name),
        row(name, "broken", reason=name),
        row(name, "refused", reason=name),
    ]
    pair = {"a": name, "a_part": name, "b": name, "reason": name}
    more = {"source": f"/photos/{name}", "settings": {name: name}, "set_aside": {name: 1}}
    out = data_set(tmp_path / "out", rows, [pair], classes=(name, name + "2"), **more)
    write_report(out, thumbnail)
    page = page_of(out)
    assert page.tags["script"] == 0
    assert page.tags["style"] == page.tags["title"] == page.tags["main"] == 1
    assert not [a for a, _ in page.attributes if a.startswith("on") or a == "href"]
    assert all(v.startswith("data:image/") for a, v in page.attributes if a == "src")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page.text)
    assert len(max(page.words, key=len)) < 10_000
    card = (out / "data_card.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(script|img|b)\b", card)
    widths = {line.replace(r"\|", "").count("|") for line in card.splitlines() if line.startswith("| split")}
    assert len(widths) <= 1
    json.loads((out / "croissant.json").read_text(encoding="utf-8"))


@given(st.text(st.characters(), max_size=300))
def test_shown_text_is_short_and_can_be_encoded(words: str) -> None:
    told = shown(words)
    told.encode("utf-8")
    assert told.isprintable()
    assert shown("猫 😀 é.png") == "猫 😀 é.png"


def test_nothing_comes_from_elsewhere_and_scripts_could_not_run(tmp_path: Path) -> None:
    out = data_set(tmp_path / "out", mixed())
    write_report(out, thumbnail)
    source = (out / "report.html").read_text(encoding="utf-8")
    page = Seen(source)
    assert dict(page.attributes)["content"].startswith("default-src 'none'; img-src data:")
    assert "://" not in source
    assert "url(" not in source
    assert page.tags["link"] == page.tags["script"] == 0
    assert page.tags["img"] > 20
    pictures = re.findall(r'src="data:image/(png|jpeg);base64,([^"]+)"', source)
    for kind, data in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            assert image.format == kind.upper()
            image.load()


def test_large_pictures_are_shrunk(tmp_path: Path) -> None:
    out = data_set(tmp_path / "out", mixed(20))
    write_report(out, lambda *_: png(0, 600))
    assert (out / "report.html").stat().st_size < 2_000_000
    with Image.open(out / "samples.png") as sheet:
        assert sheet.size == (8 * 130, 2 * 130)


def test_the_same_data_set_gives_the_same_bytes(tmp_path: Path) -> None:
    pairs = [{"a": "c0/0.jpg", "b": "c1/1.jpg", "reason": "crop"}]
    one, two = (data_set(tmp_path / name, mixed(), pairs) for name in ("one", "two"))
    for path in write_report(one, thumbnail, seed=3):
        assert path.read_bytes() == (write_report(two, thumbnail, seed=3), (two / path.name).read_bytes())[1]
    before = (one / "report.html").read_bytes()
    write_report(one, thumbnail, seed=4)
    assert (one / "report.html").read_bytes() != before


# Streaming


@pytest.mark.slow
def test_memory_does_not_grow_with_the_manifest(tmp_path: Path) -> None:
    def many(n: int) -> Iterable[dict]:
        for i in range(n):
            facts = {"width": i, "seconds": i / 7, "mode": f"mode {i}"}
            reason = f"broken in way {i}"
            yield row(f"{i}.jpg", label=i % 2, cluster=i, facts=facts, flags=["dark"] if i % 3 else [])
            yield row(f"{i}.png", "broken", reason=reason)

    peaks = []
    for n in (4000, 16_000):
        out = data_set(tmp_path / str(n), many(n))
        tracemalloc.start()
        write_report(out, thumbnail)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 12_000 * 100  # bytes; the cluster's numbers alone


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(2, 40))
def test_a_histogram_counts_every_number_in_its_bin(values: list[float], most: int) -> None:
    histogram = Histogram()
    for i, value in enumerate(values):
        histogram.add(value)
        if i % 37 == 0:
            histogram.flush()
    edges, counts = histogram.bars(most)
    assert len(counts) <= most
    assert len(histogram.bins) <= BINS
    np.testing.assert_array_equal(counts, np.histogram(values, [*edges[:-1], math.nextafter(edges[-1], -math.inf)])[0])
    assert (histogram.least, histogram.most, histogram.count) == (min(values), max(values), len(values))


def test_facts_take_what_is_no_number_as_words() -> None:
    fact = Fact()
    for value in (1, 2.5, True, None, "RGB", float("nan"), float("inf"), [1]):
        fact.add(value)
    assert fact.plain.bars()[1].count(1) == 2
    assert sum(fact.words.values()) == 6


def test_a_long_tail_is_drawn_on_a_log_scale() -> None:
    tail, narrow = Fact(), Fact()
    for i in range(1000):
        tail.add(100 + i % 50 if i else 100_000)
        narrow.add(100 + i % 50)
    assert tail.histogram().logs
    assert not narrow.histogram().logs


def test_a_reservoir_is_fair() -> None:
    hits: Counter[int] = Counter()
    for seed in range(2000):
        reservoir: Reservoir[int] = Reservoir(3, f"{seed}")
        for i in range(12):
            reservoir.add(i)
        assert reservoir.items == sorted(set(reservoir.items))
        hits.update(reservoir.items)
    assert all(abs(hits[i] - 500) < 5 * math.sqrt(500 * 0.75) for i in range(12))


def test_reasons_that_differ_in_numbers_are_one() -> None:
    reasons = Grouped(2, "")
    for i in range(5):
        reasons.add(f"{i}x7 is under min_size=64", {"name": str(i)})
    reasons.add("an empty file")
    (first, count, rows), (second, one, none) = reasons.most_common()
    assert (first, count, len(rows)) == ("…x7 is under min_size=64", 5, 2)
    assert (second, one, none) == ("an empty file", 1, [])


def test_conflicts_are_clusters_with_two_labels() -> None:
    clusters = Clusters([0, 0, 2, 2, 4, 5, 5], [1, 1, 0, 1, 1, -1, 3])
    assert clusters.ids[clusters.conflicts].tolist() == [2]
    assert clusters.ids[clusters.several].tolist() == [0, 2, 5]
    assert clusters.examples(clusters.several, 1, 1, seed=0)[0] == 0


# Croissant


def test_croissant_is_read_by_its_own_library(tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="pip install mlcroissant")
    out = data_set(tmp_path / "out", mixed(), classes=("cat", "a <dog>"))
    np.save(out / "train-00000.npy", np.zeros((60, 3, 8, 8), np.uint8))
    index = json.loads((out / "dataset.json").read_text())
    digest = hashlib.sha256((out / "train-00000.npy").read_bytes()).hexdigest()
    index["shards"]["train"][0]["sha256"] = digest
    (out / "dataset.json").write_text(json.dumps(index))
    write_report(out, thumbnail)
    described = mlcroissant.Dataset(jsonld=out / "croissant.json")
    assert not described.metadata.ctx.issues.errors
    assert described.metadata.name == "photos"
    assert {file.sha256 for file in described.metadata.distribution} >= {digest}
    assert [r["classes/name"] for r in described.records("classes")] == ["cat", "a <dog>"]
    assert [r["splits/name"] for r in described.records("splits")] == ["train", "val", "test"]
    told = list(described.records("samples"))
    assert [r["samples/name"].decode() for r in told] == [r["name"] for r in mixed()]
    assert told[0]["samples/label"] == 0
