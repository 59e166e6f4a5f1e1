"""Scores to read: a table of one evaluation, several side by side, and why two do not compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gan_kit.evaluate.suite import HIGHER, LOWER, Evaluation

__all__ = ["aligned", "differences", "number", "side_by_side", "table"]


def table(evaluation: Evaluation) -> str:
    """The scores as a table in Markdown that reads well as plain text too."""
    rows = [("metric", "value", "± s.e.", "real data", "", "note")]
    for s in evaluation.scores:
        arrow = {LOWER: "↓", HIGHER: "↑"}.get(s.better, "")
        rows.append((s.metric, number(s.value), number(s.stderr), number(s.floor), arrow, s.note))
    return aligned(rows)


def side_by_side(evaluations: Sequence[Evaluation]) -> str:
    """Scores of one protocol, a column each: a, b, c, ..."""
    names = list(dict.fromkeys(s.metric for e in evaluations for s in e.scores))
    rows = [("metric", *(chr(ord("a") + i) for i in range(len(evaluations))))]
    for name in names:
        found = [next((s for s in e.scores if s.metric == name), None) for e in evaluations]
        cells = [f"{number(s.value)} ± {number(s.stderr)}".removesuffix(" ± ") if s else "" for s in found]
        rows.append((name, *cells))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Why figures of two protocols don't compare, one line each; empty where they do."""
    flat_a, flat_b = _flat(a), _flat(b)
    return [
        f"{key}: {_shown(flat_a.get(key))} against {_shown(flat_b.get(key))}"
        for key in sorted(flat_a.keys() | flat_b.keys())
        if flat_a.get(key) != flat_b.get(key)
    ]


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        return {k: v for name, part in node.items() for k, v in _flat(part, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): node}


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
