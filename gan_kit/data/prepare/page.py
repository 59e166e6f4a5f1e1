"""report.html: one file without scripts and without anything from elsewhere.

Names of files and classes are strangers' text: they are shown, whatever they hold, and never obeyed.
"""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gan_kit.data.prepare.card import Summary, counted, shown, title
from gan_kit.data.prepare.tally import Fact, Histogram, Row

__all__ = ["Page", "Place", "places_of"]

Place = tuple[str, str]  # name and part
CLASS_ROWS = 60


def places_of(pair: Row) -> tuple[Place, Place]:
    return (pair["a"], pair.get("a_part", "")), (pair["b"], pair.get("b_part", ""))


def text(words: Any, most: int = 160) -> str:
    """Hostile text as HTML: escaped, made of one direction, shortened in the middle."""
    return f"<bdi>{html.escape(shown(words, most))}</bdi>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = (1,)) -> str:
    """Cells are HTML already; `numbers` are the columns that stand right."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{' class=n' if i in numbers else ''}>{c}</{tag}>" for i, c in enumerate(cells))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{body}</tbody></table></div>"


def _bar(parts: Sequence[int], most: int) -> str:
    """Counts as lengths side by side, the whole line being `most`."""
    spans = (f'<i class="s{i}" style="width:{100 * n / max(1, most):.2f}%"></i>' for i, n in enumerate(parts) if n)
    return f'<div class="bar" aria-hidden="true">{"".join(spans)}</div>'


def _section(name: str, *body: str) -> str:
    return f'<section id="{name.lower().replace(" ", "-")}"><h2>{name}</h2>{"".join(body)}</section>'


def _svg(histogram: Histogram) -> str:
    edges, counts = histogram.bars()
    most, width = max(counts), 320 / len(counts)
    bars = "".join(
        f'<rect x="{i * width + 0.5:.2f}" y="{80 - 78 * n / most:.2f}" width="{width - 1:.2f}" '
        f'height="{78 * n / most:.2f}">'
        f"<title>{_number(edges[i])} to {_number(edges[i + 1])}: {n:,}</title></rect>"
        for i, n in enumerate(counts)
        if n
    )
    return (
        f'<svg viewBox="0 0 320 80" preserveAspectRatio="none" role="img">{bars}</svg>'
        f"<p class=axis><span>{_number(edges[0])}</span><span>{'log scale' if histogram.logs else ''}</span>"
        f"<span>{_number(edges[-1])}</span></p>"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def _words(counts: Counter[str], most: int = 8) -> str:
    top = counts.most_common(1)[0][1]
    ordered = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))
    rows = [(text(word, 40), f"{n:,}", _bar([n], top)) for word, n in ordered[:most]]
    if len(ordered) > most:
        rows.append((f"{len(ordered) - most:,} others", f"{sum(n for _, n in ordered[most:]):,}", ""))
    return _table(("", "", ""), rows)


class Page:
    """The report's sections, "" where there is nothing to tell."""

    def __init__(self, summary: Summary, pictures: dict[Place, bytes | None]):
        self.summary, self.pictures = summary, pictures
        self.index, self.tally, self.names = summary.index, summary.tally, summary.index["class_names"]

    def html(self, alike: list[list[Row]], conflicts: list[list[Row]], pairs: list[Row]) -> str:
        """The whole page; alike, conflicts: rows of clusters, the kept one first; pairs: rows of review.jsonl"""
        parts = [
            self.head(), self.steps(), self.refused(), self.dropped(), self.flags(), self.duplicates(alike),
            self.conflicts(conflicts), self.review(pairs), self.classes(), self.facts(), self.actions(), self.samples(),
            self.settings(),
        ]  # fmt: skip
        return _framed(title(self.index), "\n".join(filter(None, parts)))

    def shot(self, row: Row, note: str = "") -> str:
        """One sample with its name; note: HTML"""
        data = self.pictures.get((row["name"], row.get("part") or ""))
        name = " ".join(filter(None, (shown(row["name"], 4096), row.get("part"))))
        if data:
            kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
            picture = f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="" loading="lazy">'
        else:
            picture = "<div class=none>no picture</div>"
        caption = f"<figcaption>{text(name, 60)}{f'<small>{note}</small>' if note else ''}</figcaption>"
        return f"<figure>{picture}{caption}</figure>"

    def shots(self, rows: Iterable[Row], note: Callable[[Row], str] = lambda _: "") -> str:
        return f"<div class=shots>{''.join(self.shot(row, note(row)) for row in rows)}</div>"

    def class_name(self, row: Row) -> str:
        label = row.get("label")
        return "" if label is None or not 0 <= label < len(self.names) else text(self.names[label], 40)

    def head(self) -> str:
        s = self.summary
        tiles = [(f"{s.kept:,}", f"{s.things} kept"), *((f"{n:,}", split) for split, n in self.index["counts"].items())]
        if self.names:
            tiles.append((f"{len(self.names):,}", "classes"))
        tiles.append((" × ".join(map(str, self.index["shape"])), self.index["dtype"]))
        shown_tiles = "".join(f"<div><b>{number}</b><span>{what}</span></div>" for number, what in tiles)
        hints = "".join(f"<li>{text(hint, 300)}</li>" for hint in s.hints())
        return f"<header><h1>{text(title(self.index))}</h1><div class=tiles>{shown_tiles}</div></header>" + (
            f"<section class=hints><h2>Worth a look</h2><ul>{hints}</ul></section>" if hints else ""
        )

    def steps(self) -> str:
        steps = self.summary.steps()
        most = max((n for _, n, _ in steps), default=1)
        rows = [(text(what), f"{n:,}", _bar([n], most), text(note, 300)) for what, n, note in steps]
        return _section("What became of each file", _table(("", "", "", ""), rows))

    def refused(self) -> str:
        rows = []
        for status in ("broken", "refused"):
            for reason, count, examples in self.tally.reasons[status].most_common()[:100]:
                names = "<br>".join(text(row["name"], 90) for row in examples)
                if count > len(examples):
                    names += f"<br><small>and {count - len(examples):,} more</small>"
                rows.append((status, f"{count:,}", text(reason), names))
        return _section("Files that gave nothing", _table(("", "files", "reason", "which"), rows)) if rows else ""

    def dropped(self) -> str:
        if not self.tally.status["dropped"]:
            return ""
        rows = [(text(reason), f"{n:,}") for reason, n, _ in self.tally.reasons["dropped"].most_common()[:50]]
        shots = self.shots(self.tally.dropped.items, lambda row: text(row["reason"] or "without a label"))
        return _section("Left out on request", _table(("reason", "samples"), rows), shots)

    def flags(self) -> str:
        parts = []
        for flag, found in sorted(self.tally.flags.items(), key=lambda kv: (-kv[1].seen, kv[0])):
            told = f"{found.seen:,} found, {self.tally.flagged_kept[flag]:,} of them kept"
            parts.append(f"<h3>{text(flag)} <small>{told}</small></h3>{self.shots(found.items)}")
        note = "<p>A flag is a hint; samples are left out for it only where <code>drop</code> names it.</p>"
        return _section("Flags", note, *parts) if parts else ""

    def _cluster(self, rows: list[Row]) -> str:
        if not rows:
            return ""
        clusters = self.summary.clusters
        size = int(clusters.sizes[clusters.ids.searchsorted(rows[0]["cluster"])])
        more = f"<span class=more>and {size - len(rows):,} more</span>" if size > len(rows) else ""

        def note(row: Row) -> str:
            kept = row["status"] == "kept"
            return " · ".join(filter(None, ("<b>kept</b>" if kept else text(row["reason"], 40), self.class_name(row))))

        return f"<div class=group>{self.shots(rows, note)}{more}</div>"

    def _clusters(self, groups: list[list[Row]]) -> str:
        return f"<div class=groups>{''.join(map(self._cluster, groups))}</div>"

    def duplicates(self, groups: list[list[Row]]) -> str:
        clusters = self.summary.clusters
        if not len(clusters.several):
            return ""
        sizes = Counter(str(n) if n < 10 else "10 or more" for n in clusters.sizes[clusters.several].tolist())
        rows = [
            (size, f"{n:,}", _bar([n], max(sizes.values()))) for size, n in sorted(sizes.items(), key=_leading_number)
        ]
        kinds = ", ".join(f"{n:,} {text(kind)}" for kind, n in sorted(self.tally.kinds_of_duplicate.items()))
        found = counted(len(clusters.several), "cluster")
        told = f"<p>{found} of alike samples; left out as duplicates: {kinds or 'none'}.</p>"
        return _section("Duplicates", told, _table(("cluster of", "clusters", ""), rows), self._clusters(groups))

    def conflicts(self, groups: list[list[Row]]) -> str:
        if not groups:
            return ""
        clusters = self.summary.clusters
        told = f"<p>Alike samples with labels of several classes: {counted(len(clusters.conflicts), 'cluster')}.</p>"
        return _section("Conflicting labels", told, self._clusters(groups))

    def review(self, pairs: list[Row]) -> str:
        if not pairs:
            return ""
        rows = [(text(reason), f"{n:,}") for reason, n in sorted(self.summary.review.items())]
        told = "<p>Pairs that may be copies, all kept unless they are duplicates of others; review.jsonl lists all.</p>"
        couples = "".join(
            "<div class=group>"
            + self.shots({"name": name, "part": part} for name, part in places_of(pair))
            + f"<span class=more>{text(pair['reason'])}</span></div>"
            for pair in pairs
        )
        return _section("For review", told, _table(("reason", "pairs"), rows), f"<div class=groups>{couples}</div>")

    def classes(self) -> str:
        if not self.names:
            return ""
        splits = list(self.index["counts"])
        counts = [[self.tally.balance[split, i] for split in splits] for i in range(len(self.names))]
        most = max(map(sum, counts))
        order = list(range(len(counts)))
        told = ""
        if len(order) > CLASS_ROWS:
            order.sort(key=lambda i: (-sum(counts[i]), i))
            told = (
                f"<p>The {CLASS_ROWS // 2} largest and the {CLASS_ROWS // 2} smallest of {len(counts):,} classes.</p>"
            )
            order = order[: CLASS_ROWS // 2] + order[-CLASS_ROWS // 2 :]
        rows = [
            (text(self.names[i], 60), *(f"{n:,}" for n in counts[i]), f"{sum(counts[i]):,}", _bar(counts[i], most))
            for i in order
        ]
        key = " ".join(f'<span class=key><i class="s{i}"></i>{split}</span>' for i, split in enumerate(splits))
        numbers = range(1, len(splits) + 2)
        return _section("Classes", told, _table(("class", *splits, "all", key), rows, numbers))

    def facts(self) -> str:
        cards, same = [], []
        for name, fact in sorted(self.tally.facts.items()):
            label = text(name.replace("_", " "), 40)
            if value := _one_value(fact):
                same.append(f"{label} {value}")
                continue
            if fact.plain.count:
                hist = fact.histogram()
                mean = fact.plain.total / fact.plain.count
                told = f"{_number(fact.plain.least)} to {_number(fact.plain.most)}, mean {_number(mean)}"
                cards.append(f"<div class=card><h3>{label}</h3>{_svg(hist)}<p>{told}</p></div>")
            if fact.words:
                cards.append(f"<div class=card><h3>{label}</h3>{_words(fact.words)}</div>")
        told = f"<p>Of all kept samples alike: {'; '.join(same)}.</p>" if same else ""
        return (
            _section("Kept samples in numbers", told, f"<div class=cards>{''.join(cards)}</div>")
            if cards or told
            else ""
        )

    def actions(self) -> str:
        rows = [(text(action), f"{n:,}") for action, n, _ in self.tally.actions.most_common()[:100]]
        return _section("What was done to samples", _table(("action", "samples"), rows)) if rows else ""

    def samples(self) -> str:
        parts = []
        for label, found in self.tally.kept.items():
            if found.items:
                head = f"<h3>{text(self.names[label])}</h3>" if label >= 0 else ""
                parts.append(head + self.shots(found.items))
        if len(self.names) > len(self.tally.kept):
            parts.append(f"<p>and {len(self.names) - len(self.tally.kept):,} more classes</p>")
        return _section("Samples", *parts) if parts else ""

    def settings(self) -> str:
        index = self.index
        rows = [(text(k), text(v, 1000)) for k, v in sorted(index.get("settings", {}).items())]
        rows += [(name, text(index[name], 1000)) for name in ("source", "created_by", "sha256") if index.get(name)]
        return _section("How it was made", _table(("", ""), rows, numbers=()))


def _one_value(fact: Fact) -> str:
    """The value that all samples share, as HTML; "" where they differ."""
    fact.plain.flush()
    if fact.plain.count and not fact.words and fact.plain.least == fact.plain.most:
        return _number(fact.plain.least)
    return text(next(iter(fact.words)), 40) if len(fact.words) == 1 and not fact.plain.count else ""


def _leading_number(item: tuple[str, int]) -> int:
    return int(item[0].split()[0])


def _framed(name: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{html.escape(shown(name))}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


STYLE = """
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --ink: #1b1f24; --soft: #66707c; --line: #dfe3e8;
  --s0: #2f6fb7; --s1: #d9902f; --s2: #4c9a62; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1d2126; --ink: #e6e9ed; --soft: #97a1ad;
  --line: #32383f; --s0: #6ea8e5; --s1: #e3ad5e; --s2: #7cc492; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .6rem; } h3 { font-size: 1rem; margin: .9rem 0 .4rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; margin: 1rem 0; }
.tiles, .cards, .shots, .groups { display: flex; flex-wrap: wrap; gap: .6rem; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .6rem 1rem; }
.tiles b { display: block; font-size: 1.3rem; } small, .tiles span, .more, .axis, .card p, p { color: var(--soft); }
small { font-size: .85em; font-weight: normal; } p { margin: .2rem 0 .6rem; }
.hints { border-left: 4px solid var(--s1); } ul { margin: 0; padding-left: 1.2rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin-bottom: .6rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem 1.2rem .25rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; min-width: 3.5rem; } th { font-weight: 600; color: var(--soft); } th:empty { padding: 0; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td:first-child { overflow-wrap: break-word; max-width: 16rem; }
.bar { display: flex; width: min(20rem, 20vw); height: .8rem; margin-top: .35rem; }
.bar i { display: block; height: 100%; }
.s0 { background: var(--s0); } .s1 { background: var(--s1); } .s2 { background: var(--s2); }
.key { margin-right: .7rem; white-space: nowrap; }
.key i { display: inline-block; width: .7rem; height: .7rem; margin-right: .3rem; }
figure { margin: 0; width: min-content; min-width: 6.5rem; max-width: 12rem; }
figcaption { font-size: .75rem; line-height: 1.3; overflow-wrap: anywhere; } figcaption small { display: block; }
img, .none { display: block; min-width: 6.5rem; max-width: 100%; height: auto; border-radius: 4px; }
.none { border: 1px dashed var(--line); padding: 1.5rem 0; text-align: center; color: var(--soft); font-size: .75rem; }
.group { border: 1px solid var(--line); border-radius: 8px; padding: .5rem; }
.card { flex: 1 1 15rem; min-width: 0; max-width: 24rem; } .card svg { display: block; width: 100%; height: 5rem;
  border-bottom: 1px solid var(--line); } rect { fill: var(--s0); }
.axis { display: flex; justify-content: space-between; font-size: .75rem; margin: 0; }
.card .bar { width: 5rem; }
@media print { section { break-inside: avoid; } }
"""
