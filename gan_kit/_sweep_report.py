"""What a sweep has found: a table, a picture, and the best trial's settings as a file that `train` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["report"]


def report(study: Any, base: Any, direction: str) -> None:
    """Print the table; write best.yaml and sweep.png into the sweep's folder, where there is anything to tell."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("overrides") is not None]
    if not trials:
        return
    names = [p.name for p in base.parameters]
    whole = [t for t in trials if t.state.name == "COMPLETE"]
    sign = 1 if direction == "minimize" else -1
    rank = {t.number: i for i, t in enumerate(sorted(whole, key=lambda t: sign * t.value))}
    order = sorted(trials, key=lambda t: (rank.get(t.number, len(trials)), t.number))
    rows = [["trial", "state", "score", "samples", *names]]
    for t in order:
        curve = t.intermediate_values
        score = t.value if t.state.name == "COMPLETE" else curve[max(curve)] if curve else None
        values = [_shown(t.params.get(name)) for name in names]
        reached = f"{max(curve):,}" if curve else ""
        rows.append([str(t.number), t.state.name.lower(), "" if score is None else f"{score:.4g}", reached, *values])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    _draw(trials, names, base.folder / "sweep.png")
    print(f"\n  picture  {base.folder / 'sweep.png'}")
    if whole:
        _write_best(order[0], base)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_best(best: Any, base: Any) -> None:
    import yaml

    from gan_kit.files import write_whole

    path = base.folder / "best.yaml"
    settings = [*base.kept, *best.user_attrs["overrides"]]
    head = f"# trial {best.number}: {best.value:.6g}; python -m gan_kit.train @{path}\n"
    write_whole(path, head + yaml.safe_dump(settings, allow_unicode=True, width=1000))
    print(f"  best     {path}  (trial {best.number})")
    print(f"next:\n  python -m gan_kit.train @{path}")


def _draw(trials: list[Any], names: list[str], path: Path) -> None:
    """The curves of all trials, then the score against each parameter; the last value where a trial was pruned."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from gan_kit.files import written_whole

    colours = {"COMPLETE": "C0", "PRUNED": "0.65", "RUNNING": "C1", "FAIL": "C3"}
    figure = Figure(figsize=(3.2 * (1 + len(names)), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(names), squeeze=False, sharey=True)[0]
    seen: set[str] = set()
    for t in trials:
        if not (curve := sorted(t.intermediate_values.items())):
            continue
        state = t.state.name
        label = None if state in seen else state.lower()
        seen.add(state)
        axes[0].plot(*zip(*curve, strict=True), "o-", ms=3, lw=1, color=colours.get(state, "k"), label=label)
        for axis, name in zip(axes[1:], names, strict=True):
            if name in t.params:
                axis.plot(t.params[name], curve[-1][1], "o", ms=4, color=colours.get(state, "k"))
    values = [v for t in trials for v in t.intermediate_values.values()]
    if values and min(values) > 0 and max(values) > 10 * min(values):
        axes[0].set_yscale("log")
    axes[0].set(xlabel="samples", ylabel="score")
    if seen:
        axes[0].legend(fontsize=8)
    for axis, name in zip(axes[1:], names, strict=True):
        numbers = [t.params[name] for t in trials if isinstance(t.params.get(name), int | float)]
        if numbers and min(numbers) > 0 and max(numbers) > 5 * min(numbers):
            axis.set_xscale("log")
        axis.set_xlabel(name)
    for axis in axes:
        axis.grid(alpha=0.3)
    with written_whole(path) as part:
        figure.savefig(part, dpi=110, format="png")
