"""Tables and sheets of what the leaderboard has found."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from leaderboard_recipes import FAMILIES, Data
from PIL import Image

from gan_kit.files import write_whole
from gan_kit.types import UserError

BEGIN, END = "<!-- leaderboard: written by benchmarks/leaderboard.py --report -->", "<!-- end of leaderboard -->"
# title, name of the score or its beginning, digits
COLUMNS = (
    ("FD ↓", "fd-", 2), ("KID ↓", "kd-", 4), ("precision ↑", "precision", 3), ("recall ↑", "recall", 3),
    ("copies ↓", "copies", 3), ("C_T", "c_t", 1),
)  # fmt: skip
SHEET_COLUMNS, SHEET_ROWS = 10, 6


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a .jsonl; one that was cut by a kill is passed over."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def figure(record: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The score of this name, or whose name begins so: fd- is fd-classifier, say."""
    scores = record["scores"]
    return next((s for key, s in scores.items() if key == name or (name.endswith("-") and key.startswith(name))), None)


def in_short(record: dict[str, Any]) -> str:
    parts = []
    for title, name, digits in COLUMNS:
        if found := figure(record, name):
            parts.append(f"{title.split()[0]} {found['value']:.{digits}f}")
    return f"{record['samples_seen']:,} samples, {', '.join(parts)}"


# ---- tables ---------------------------------------------------------------------------------------------------------


def chosen(records: Sequence[dict[str, Any]], cpu_minutes: float) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """{data: {family: records by seed}}: of this budget and of the newest recipe; the last one of each seed."""
    newest: dict[tuple[str, str], str] = {}
    last: dict[tuple[str, str, int], dict[str, Any]] = {}
    for record in records:
        key = record["key"]
        if key.get("cpu_minutes") == cpu_minutes:
            newest[key["data"], key["family"]] = key["recipe"]
            last[key["data"], key["family"], key["seed"]] = record
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for (data, family, _), record in sorted(last.items()):
        if record["key"]["recipe"] == newest[data, family]:
            found[data][family].append(record)
    return found


def over_seeds(records: Sequence[dict[str, Any]], name: str, digits: int) -> tuple[float, str]:
    """-> the mean, and it in words with what it is the mean of"""
    values = [f["value"] for r in records if (f := figure(r, name))]
    if not values:
        return math.inf, ""
    mean = statistics.fmean(values)
    each = ", ".join(f"{v:.{digits}f}" for v in values)
    return mean, f"{mean:.{digits}f} ({each})" if len(values) > 1 else f"{mean:.{digits}f}"


def table(families: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Markdown: best mean FD first, real samples last. Records of one data set and league.

    Raises UserError where their protocols differ.
    """
    whole = {name: [r for r in records if "failed" not in r] for name, records in families.items()}
    every = [r for records in whole.values() for r in records]
    if len({r["protocol_sha256"] for r in every}) > 1:
        raise UserError("these were scored by several protocols, which don't compare: remove results of the older one")
    lines = [f"| family | thousand samples | {' | '.join(title for title, _, _ in COLUMNS)} |", "|---" * 8 + "|"]
    best = {name: _best(whole, name, title) for title, name, _ in COLUMNS}
    ranked = sorted(whole, key=lambda family: over_seeds(whole[family], "fd-", 2)[0])
    for family in ranked:
        records = whole[family]
        failed = [r for r in families[family] if "failed" in r]
        ends = f" (failed: seed {', '.join(str(r['key']['seed']) for r in failed)})" if failed else ""
        cells = []
        for _, name, digits in COLUMNS:
            mean, text = over_seeds(records, name, digits)
            first, _, rest = text.partition(" ")
            cells.append(f"**{first}** {rest}".strip() if text and mean == best[name] else text)
        seen = f"{statistics.fmean(r['samples_seen'] for r in records) / 1e3:,.0f}" if records else ""
        lines.append(f"| `{family}`{ends} | {seen} | {' | '.join(cells)} |")
    if every:
        floors = [((figure(every[0], name) or {}).get("floor"), digits) for _, name, digits in COLUMNS]
        cells = ["" if floor is None else f"{floor:.{digits}f}" for floor, digits in floors]
        lines.append(f"| *real* | | {' | '.join(cells)} |")
    return lines


def _best(families: dict[str, list[dict[str, Any]]], name: str, title: str) -> float | None:
    """The best mean of a column that has a better end; of copies nobody is, nor where all are alike."""
    if name == "copies" or title[-1] not in "↓↑":
        return None
    means = [m for records in families.values() if math.isfinite(m := over_seeds(records, name, 3)[0])]
    pick: Callable[[list[float]], float] = min if title[-1] == "↓" else max
    return pick(means) if len(means) == 1 or len(set(means)) > 1 else None


def ordering(families: dict[str, list[dict[str, Any]]]) -> str:
    """Who leads by FD, and whether all seeds agree; where R3GAN is, if it does not lead."""
    values = {
        family: [f["value"] for r in records if "failed" not in r and (f := figure(r, "fd-"))]
        for family, records in families.items()
    }
    ranked = sorted((name for name in values if values[name]), key=lambda name: statistics.fmean(values[name]))
    if len(ranked) < 2:
        return ""
    first, second = ranked[:2]
    if len(values[first]) == len(values[second]) == 1:
        said = f"`{first}` leads, by one seed"
    elif max(values[first]) < min(values[second]):
        said = f"`{first}` leads, by each of its seeds"
    else:
        said = f"`{first}` and `{second}` are not told apart by these seeds"
    if "r3gan" in ranked[1:]:
        said += f"; `r3gan` is number {ranked.index('r3gan') + 1} of {len(ranked)}"
    return f"{said}."


# ---- the page -------------------------------------------------------------------------------------------------------


def page(records: Sequence[dict[str, Any]], cpu_minutes: float, data: Sequence[Data], sheets: str) -> str:
    """The text between the markers. sheets: of pictures, as the page links them, or "" for none"""
    whole_board = chosen(records, cpu_minutes)
    found = {each.name: whole_board[each.name] for each in data if each.name in whole_board}
    lines: list[str] = []
    for each in data:
        if not (families := found.get(each.name)):
            continue
        some = [r for records in families.values() for r in records if "failed" not in r]
        lines += [f"### {each.title}", ""]
        for league in sorted({FAMILIES[f].league for f in families}, key=lambda name: name != "main"):
            members = {f: r for f, r in families.items() if FAMILIES[f].league == league}
            if league != "main":
                lines += [f"A league of its own, whose critic knows {league} (docs/extractors.md):", ""]
            lines += [*table(members), ""]
            if league == "main" and (said := ordering(members)):
                lines += [said, ""]
        if some:
            lines += [about(each, some), ""]
        if sheets:
            linked = [f"[`{f}`]({sheets}/{sheet_name(each.name, f)})" for f in families if any_sheet(families[f])]
            lines += [f"Samples, not chosen, of the first seed: {', '.join(linked)}.", ""] if linked else []
        for family, records_of in families.items():
            lines += [f"- `{family}`, seed {r['key']['seed']}: {r['failed']}" for r in records_of if "failed" in r]
    if not lines:
        raise UserError(f"nothing is done at {cpu_minutes:g} CPU-minutes; give --cpu-minutes as in the trainings")
    seeds = sorted({r["key"]["seed"] for f in found.values() for rs in f.values() for r in rs})
    whole = [r for f in found.values() for rs in f.values() for r in rs if "failed" not in r]
    spent = sum(r["cpu_seconds"] for r in whole) / 60 / max(1, len(whole))
    commits = ", ".join(sorted({r["commit"] for r in whole}))
    head = [
        f"`python benchmarks/leaderboard.py --cpu-minutes {cpu_minutes:g} --seeds {' '.join(map(str, seeds))}`",
        f"Each family had {cpu_minutes:g} CPU-minutes of training steps on one thread ({spent:.1f} with start, "
        f"guardian and checkpoints, on average), seed {' and '.join(map(str, seeds))}"
        f"{': the mean, and each seed in brackets' if len(seeds) > 1 else ''}. Recipes are papers', scaled down, in "
        f"`benchmarks/leaderboard_recipes.py`; only DCGAN's and R3GAN's presets were searched. Machine: "
        f"{', '.join(sorted({r['machine'] for r in whole}))}; commit {commits}.",
    ]
    return "\n\n".join(head) + "\n\n" + "\n".join(lines).strip() + "\n"


def about(data: Data, records: Sequence[dict[str, Any]]) -> str:
    """What the figures were measured by."""
    p = records[0]["protocol"]
    note = (figure(records[0], "fd-") or {}).get("note")
    against = f"the {p['n_real']:,} of the {data.split} split"
    other = "training pictures" if data.split == "test" else "held-out pictures, which no generator saw"
    text = (
        f"{p['n_fake']:,} samples of the averaged generator against {against}; features of "
        f"`{p['extractor']['extractor']}`; *real*: {other}, in the place of the generated ones. "
        f"Protocol {records[0]['protocol_sha256'][:8]}."
    )
    return f"{text} FD is {note}: compare it with *real* only." if note else text


def any_sheet(records: Sequence[dict[str, Any]]) -> bool:
    return any("failed" not in r for r in records)


def sheet_name(data: str, family: str) -> str:
    return f"leaderboard_{data}_{family}.jpg"


def write(out: Path, rows: Path, into: Path, sheets: Path, cpu_minutes: float, data: Sequence[Data]) -> None:
    """Results into `rows`, sheets into `sheets`, text between the markers of `into`; where it has none, the text is
    printed."""
    by_key = {json.dumps(r["key"], sort_keys=True): r for r in read(rows) + read(out / "results.jsonl")}
    records = list(by_key.values())
    rows.parent.mkdir(parents=True, exist_ok=True)
    write_whole(rows, "".join(json.dumps(r) + "\n" for r in records))
    linked = sheets.relative_to(into.parent).as_posix() if sheets.is_relative_to(into.parent) else sheets.as_posix()
    text = f"{BEGIN}\n{page(records, cpu_minutes, data, linked)}{END}"
    for name, families in chosen(records, cpu_minutes).items():
        for family, of_family in families.items():
            for record in (r for r in of_family if "failed" not in r):
                source = out / "entries" / name / family / str(record["key"]["seed"]) / "sheet.png"
                if source.exists() and name in {d.name for d in data}:
                    sheets.mkdir(parents=True, exist_ok=True)
                    with Image.open(source) as sheet:  # a third of the PNG's bytes, to stand in the repository
                        sheet.save(sheets / sheet_name(name, family), quality=90)
                    break
    old = into.read_text(encoding="utf-8") if into.exists() else ""
    before, begun, rest = old.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if begun and ended:
        write_whole(into, before + text + after)
        print(f"{into}, and sheets in {sheets}")
    else:
        print(text)
        print(f"\n{into} has no markers for this: put the above there once, and it is replaced from then on")


# ---- sheets ---------------------------------------------------------------------------------------------------------


def draw_sheet(run: Path, path: Path) -> None:
    """The first samples of the averaged generator: a row a class, or six rows."""
    import torch

    import gan_kit
    from gan_kit.pictures import grid, save_png

    torch.set_num_threads(1)
    gan = gan_kit.load(run)
    labels = [k for k in range(gan.num_classes) for _ in range(SHEET_COLUMNS)] if gan.num_classes else None
    x = gan.sample(len(labels) if labels else SHEET_COLUMNS * SHEET_ROWS, labels, seed=0)
    save_png(grid(x, SHEET_COLUMNS, min_side=1), path)
