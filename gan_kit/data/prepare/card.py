"""data_card.md of a prepared data set, and what it and the report both tell.

Headings after Gebru et al. 2021, "Datasheets for Datasets", and Pushkarna et al. 2022, "Data Cards".
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from gan_kit.data.prepare.tally import Clusters, Tally

__all__ = ["Summary", "counted", "data_card", "shown", "title"]

# a discriminator soon knows so few by heart (Karras et al. 2020, "Training GANs with Limited Data", section 2)
FEW = 2000


def shown(words: Any, most: int = 160) -> str:
    """Text that can be printed: lone surrogates, controls and turns of direction as escapes, its middle left out."""
    told = str(words)
    if len(told) > most:
        told = f"{told[: most // 2]}…{told[-(most // 2) :]}"
    return "".join(
        c if c == " " or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Co", "Cn") else _escape(c)
        for c in told
    )


def _escape(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # a byte that was no UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("ascii", "backslashreplace").decode() if ord(c) > 127 else f"\\x{ord(c):02x}"


def title(index: dict[str, Any]) -> str:
    """The source's own name."""
    return shown(PurePath(index.get("source") or "").name.removesuffix(".zip") or "data set")


@dataclass(frozen=True)
class Summary:
    """index: dataset.json; review: doubtful pairs by their reason"""

    index: dict[str, Any]
    tally: Tally
    clusters: Clusters
    review: Counter[str]

    @property
    def kept(self) -> int:
        return self.tally.status["kept"]

    @property
    def things(self) -> str:
        return {"image": "pictures", "audio": "sounds"}.get(self.index["domain"], "samples")

    def steps(self) -> list[tuple[str, int, str]]:
        """(what, how many, note), in the order of preparing"""
        t, aside = self.tally, self.index.get("set_aside", {})
        kinds = t.kinds_of_duplicate
        steps = [
            ("set aside", sum(aside.values()), ", ".join(f"{n:,} {what}" for what, n in sorted(aside.items()))),
            ("files found", t.files, "what looked like a sample"),
            ("refused", t.status["refused"], "not opened"),
            ("broken", t.status["broken"], "could not be decoded"),
            ("samples", t.samples, "decoded"),
            ("left out", t.status["dropped"], "by a flag that drop names, or without a label"),
            *((f"{kind} duplicates", n, "a better one like it was kept") for kind, n in sorted(kinds.items())),
            ("kept", self.kept, ""),
        ]
        return [step for step in steps if step[1] or step[0] in ("files found", "kept")]

    def hints(self) -> list[str]:
        """What a person should look at before training, in plain text."""
        t, index = self.tally, self.index
        names, counts = index["class_names"], index["counts"]
        hints = []
        if n := len(self.clusters.conflicts):
            hints.append(f"{counted(n, 'cluster')} of alike {self.things} with different labels")
        if n := sum(self.review.values()):
            hints.append(f"{counted(n, 'pair')} for review: review.jsonl")
        if n := t.status["broken"] + t.status["refused"]:
            hints.append(f"{counted(n, 'file')} gave nothing")
        for flag, n in sorted(t.flagged_kept.items()):
            if n:
                hints.append(f"{n:,} kept {self.things} are flagged {shown(flag, 40)}")
        train = [t.balance["train", i] for i in range(len(names))]
        if absent := [shown(names[i], 40) for i, n in enumerate(train) if n == 0]:
            more = f" and {len(absent) - 5:,} more" if len(absent) > 5 else ""
            hints.append(f"no training sample of {', '.join(absent[:5])}{more}")
        elif train and max(train) > 10 * min(train):
            hints.append(f"the largest class has {max(train) / min(train):.0f} times the samples of the smallest")
        if 0 < counts.get("train", 0) < FEW:
            hints.append(f"{counts['train']:,} training {self.things} are few: use augmentation, such as ADA")
        hints += [f"the {split} split is empty" for split, n in counts.items() if n == 0]
        return hints


def data_card(summary: Summary) -> str:
    """Markdown; what only a person can know is left to be filled in."""
    index, tally = summary.index, summary.tally
    shape = " × ".join(map(str, index["shape"]))
    axes = "channels × height × width" if len(index["shape"]) == 3 else "channels × samples of sound"
    lines = [
        f"# {_md(title(index))}",
        "",
        f"{summary.kept:,} {summary.things} of {shape} {index['dtype']} ({axes}), prepared by "
        f"{_md(index.get('created_by', 'gan_kit'))}. Pictures and histograms: `report.html`.",
        "",
        "## Composition",
        "",
        *_table(("Split", "Samples"), [(split, f"{n:,}") for split, n in index["counts"].items()]),
    ]
    if names := index["class_names"]:
        splits = list(index["counts"])
        rows = [(_md(n, 80), *(f"{tally.balance[s, i]:,}" for s in splits)) for i, n in enumerate(names[:100])]
        lines += [f"{counted(len(names), 'class', 'classes')}:", ""]
        lines += _table(("Class", *splits), rows)
        if len(names) > len(rows):
            lines += [f"and {len(names) - len(rows):,} more, in `dataset.json`.", ""]
    else:
        lines += ["No labels.", ""]
    lines += [
        "## Collection",
        "",
        f"Read from {_md(title(index))}. *Who made these {summary.things}, how, when, and of whom or what: "
        "to be filled in.*",
        "",
        "## Cleaning",
        "",
        *_table(("Step", "Count", ""), [(_md(what), f"{n:,}", _md(note, 300)) for what, n, note in summary.steps()]),
    ]
    for status in ("broken", "refused"):
        rows = [(_md(reason), f"{n:,}") for reason, n, _ in tally.reasons[status].most_common()[:20]]
        if rows:
            lines += _table((status.capitalize(), "Files"), rows)
    actions = [(_md(action), f"{n:,}") for action, n, _ in tally.actions.most_common()[:30]]
    if actions:
        lines += _table(("Done to samples", "Samples"), actions)
    lines += [
        "## Splits",
        "",
        "Samples that are alike share a split, so that none of val and test has a near-duplicate in train, as far as "
        f"the search for duplicates sees it: {counted(len(summary.clusters.several), 'cluster')} of two or more.",
        "",
        "## Known limits",
        "",
        *[f"- {_md(hint, 300)}" for hint in summary.hints()],
        "- *What the set lacks, whom it may harm, what it should not be used for: to be filled in.*",
        "",
        "## Licence",
        "",
        "*Unknown: to be filled in.* Preparing changes nothing about the rights in the source.",
        "",
        "## How it was made",
        "",
        *_table(("Setting", "Value"), [(_md(k), _md(v, 400)) for k, v in sorted(index.get("settings", {}).items())]),
    ]
    if index.get("sha256"):
        lines += [f"sha256 of the packed samples: {_md(index['sha256'])}", ""]
    return "\n".join(lines)


def counted(n: int, what: str, many: str = "") -> str:
    return f"{n:,} {what if n == 1 else many or what + 's'}"


def _md(words: Any, most: int = 160) -> str:
    """Strangers' text in Markdown: nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", shown(words, most))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
