"""Scores of a vocoder on held-out sounds, and beside each what there is without learning and what perfection scores."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gan_kit.audio.spectral import log_mel
from gan_kit.evaluate import vocoder as scores
from gan_kit.evaluate.features import as_stored, in_fp32
from gan_kit.evaluate.pitch import pitch_scores
from gan_kit.evaluate.resample import METHOD
from gan_kit.evaluate.sheets import rows_sheet
from gan_kit.evaluate.suite import HIGHER, LOWER, Evaluation, Score
from gan_kit.evaluate.tables import aligned, number
from gan_kit.types import AudioSpec, UserError

__all__ = ["METRICS", "System", "evaluate_vocoder", "machine", "score_run", "systems_of", "table"]

LONGEST = 10  # seconds that a speed is measured on


@dataclass(frozen=True)
class System:
    """What makes a sound again. show: x (1, 1, T) -> c; make: c, T -> (1, 1, T); timed: whether its speed says
    something"""

    show: Callable[[Tensor], Tensor]
    make: Callable[[Tensor, int], Tensor]
    timed: bool = True


def systems_of(spec: AudioSpec, restore: System | None = None) -> dict[str, System]:
    """The vocoder, the true sound itself, its STFT and back, and Griffin-Lim of the true mel."""

    def griffin_lim(iterations: int) -> System:
        return System(lambda x: log_mel(x, spec), lambda mel, t: scores.from_mel(mel, spec, t, iterations))

    beside = {
        "real": System(lambda x: x, lambda x, t: x, timed=False),
        "copy synthesis": System(lambda x: x, lambda x, t: scores.copy_synthesis(x, spec), timed=False),
        "Griffin-Lim 32": griffin_lim(32),
        "Griffin-Lim 60": griffin_lim(60),
    }
    return beside if restore is None else {"vocoder": restore, **beside}


# the metrics: x_hat, x (1, 1, T), spec -> figures by name, (1,) each


def _mel(x_hat: Tensor, x: Tensor, spec: AudioSpec) -> dict[str, Tensor]:
    return {"mel": scores.mel_distance(x_hat, x, spec)}


def _stft(x_hat: Tensor, x: Tensor, spec: AudioSpec) -> dict[str, Tensor]:
    found = scores.spectral_distances(x_hat, x)
    return {"stft_convergence": found.convergence, "stft_log_magnitude": found.log_magnitude}


def _f0(x_hat: Tensor, x: Tensor, spec: AudioSpec) -> dict[str, Tensor]:
    found = pitch_scores(x_hat[:, 0], x[:, 0], spec.sample_rate)
    return {"f0_cents": found.cents, "voicing_f1": found.voicing_f1}


METRICS: dict[str, Callable[[Tensor, Tensor, AudioSpec], dict[str, Tensor]] | None] = {
    "mel": _mel,
    "stft": _stft,
    "pesq": lambda x_hat, x, spec: {"pesq": scores.pesq(x_hat, x, spec.sample_rate)},
    "stoi": lambda x_hat, x, spec: {"stoi": scores.stoi(x_hat, x, spec.sample_rate)},
    "f0": _f0,
    "si_sdr": lambda x_hat, x, spec: {"si_sdr": scores.si_sdr(x_hat, x)},
    "rtf": None,  # of one sound, not a mean
}
BETTER = dict.fromkeys(("mel", "stft_convergence", "stft_log_magnitude", "f0_cents", "rtf"), LOWER)


def evaluate_vocoder(
    systems: Mapping[str, System],
    x: np.ndarray,
    spec: AudioSpec,
    metrics: Sequence[str] | None = None,
    protocol: dict[str, Any] | None = None,
    subject: dict[str, Any] | None = None,
    progress: bool = False,
) -> Evaluation:
    """All metrics, or those named, of each system; a score is the first system's, the others' stand in its detail.

    x: (N, 1, T) int16 held-out sounds, cut to whole hops; what is made is rounded to 16 bits, as its file would be
    metrics: names from METRICS; None takes each that can be had and tells why the others can't
    floor of a score: of the true sound itself; stderr: over sounds; each metric's figures leave sounds out that have
        none (`n` in the detail)

    Raises UserError for sounds of more than one channel, none at all, or a metric that is named and can't be had.
    """
    if unknown := set(metrics or ()) - METRICS.keys():
        raise UserError(f"no metric {sorted(unknown)[0]!r} of vocoders; have {', '.join(METRICS)}")
    length = x.shape[-1] - x.shape[-1] % spec.hop_length
    if not len(x) or x.shape[1] != 1 or x.dtype != np.int16 or not length:
        raise UserError(f"{x.dtype} sounds {x.shape} can't be scored: give (N, 1, T) int16, N and T from 1 hop on")
    chosen = list(metrics or METRICS)
    skipped: dict[str, str] = {}
    found: dict[str, dict[str, list[float]]] = {}
    with torch.inference_mode(), in_fp32():
        for i in tqdm(range(len(x)), desc="sounds", disable=None if progress else True, leave=False):
            true = torch.from_numpy(np.array(x[i : i + 1, :, :length])).float() / 32768
            made = {name: _made(system, true) for name, system in systems.items()}
            for metric in [m for m in chosen if METRICS[m] is not None and m not in skipped]:
                try:
                    figures = {name: METRICS[metric](x_hat, true, spec) for name, x_hat in made.items()}  # type: ignore[misc]
                except UserError as error:
                    if metrics is not None:
                        raise
                    skipped[metric] = str(error)
                    continue
                for name, values in figures.items():
                    for figure, value in values.items():
                        found.setdefault(f"{metric}/{figure}", {}).setdefault(name, []).append(float(value))
        speeds = _speeds(systems, x, spec) if "rtf" in chosen else {}
    result = []
    for key, by_system in found.items():
        metric, figure = key.split("/")
        if score := _score(metric, figure, by_system):
            result.append(score)
        else:
            skipped[figure] = "no sound has one: is there speech in them?"
    first = next(iter(systems))
    if "rtf" in chosen and first not in speeds:
        skipped["rtf"] = f"{first} is no system whose speed says something"
    elif speeds:
        detail = {name: {"value": v, "stderr": None, "n": 1} for name, v in speeds.items()}
        result.append(Score("rtf", speeds[first], None, LOWER, None, "rtf", machine(), {"systems": detail}))
    settings = {
        "task": "restoration",
        "audio": asdict(spec),
        "samples": length,
        "rounding": "int16",
        "stft": [list(r) for r in scores.RESOLUTIONS],
        "pesq": {"mode": "nb 8000" if spec.sample_rate == 8000 else "wb 16000", "resample": METHOD} | _version("pesq"),
        "stoi": {"extended": False} | _version("pystoi"),
        "f0": "YIN, 60 to 500 Hz, threshold 0.15, 10 ms",
    }
    record = settings | (protocol or {}) | {"n_real": len(x), "n_fake": len(x)}
    return Evaluation(result, record, (subject or {}) | {"machine": machine()}, skipped)


def _made(system: System, x: Tensor) -> Tensor:
    x_hat = system.make(system.show(x), x.shape[-1]).float().cpu()[..., : x.shape[-1]]
    return as_stored(x_hat).float() / 32768


def _speeds(systems: Mapping[str, System], x: np.ndarray, spec: AudioSpec) -> dict[str, float]:
    """Of so many sounds in a row, at most LONGEST seconds, that a speed can be measured on them."""
    most = math.ceil(LONGEST * spec.sample_rate / x.shape[-1])
    row = torch.from_numpy(np.concatenate(list(np.array(x[:most])), axis=-1)[None]).float() / 32768
    row = row[..., : min(row.shape[-1], LONGEST * spec.sample_rate)]
    row = row[..., : row.shape[-1] - row.shape[-1] % spec.hop_length]
    seconds = row.shape[-1] / spec.sample_rate
    speeds = {}
    for name, system in systems.items():
        if system.timed:
            shown = system.show(row)
            speeds[name] = scores.real_time_factor(lambda s=system, c=shown: s.make(c, row.shape[-1]), seconds)  # type: ignore[misc]
    return speeds


def _score(metric: str, figure: str, by_system: Mapping[str, list[float]]) -> Score | None:
    """A figure of the first system, with all others'; None where no sound has one."""
    detail = {name: _mean(values) for name, values in by_system.items()}
    own, total = next(iter(detail.values())), len(next(iter(by_system.values())))
    if own["value"] is None:
        return None
    note = "" if own["n"] == total else f"{total - own['n']} of {total} sounds have none"
    real = detail.get("real", {}).get("value")
    better = BETTER.get(figure, HIGHER)
    return Score(figure, own["value"], own["stderr"], better, real, metric, note, {"systems": detail})


def _mean(values: Sequence[float]) -> dict[str, Any]:
    there = np.array([v for v in values if math.isfinite(v)])
    if not len(there):
        return {"value": None, "stderr": None, "n": 0}
    stderr = float(there.std(ddof=1) / len(there) ** 0.5) if len(there) > 1 else None
    return {"value": float(there.mean()), "stderr": stderr, "n": len(there)}


def _version(package: str) -> dict[str, str]:
    try:
        return {"version": importlib.metadata.version(package)}
    except importlib.metadata.PackageNotFoundError:
        return {}


def machine() -> str:
    """Where a speed was measured."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{torch.get_num_threads()} threads, {name}"


def table(evaluation: Evaluation) -> str:
    """A line for each system, a column for each figure, with standard errors; Markdown that reads as plain text."""
    arrows = {LOWER: "↓", HIGHER: "↑"}
    rows = [("", *(f"{s.metric} {arrows[s.better]}" for s in evaluation.scores))]
    names = dict.fromkeys(name for s in evaluation.scores for name in s.detail["systems"])
    for name in names:
        cells = []
        for s in evaluation.scores:
            cell = s.detail["systems"].get(name, {"value": None, "stderr": None})
            cells.append(f"{number(cell['value'])} ± {number(cell['stderr'])}".removesuffix(" ± "))
        rows.append((name, *cells))
    return aligned(rows)


def score_run(
    vocoder: Any,
    data: Any,
    run: Path,
    split: str = "test",
    most: int = 10_000,
    metrics: Sequence[str] | None = None,
    out: Path | None = None,
) -> Path:
    """Score a trained vocoder on at most so many sounds of a split, print the table; -> the folder of vocoder.json and
    examples.png (a row the true sounds, a row what the vocoder makes, a row Griffin-Lim's).

    Raises UserError where what the run restores are no sounds.
    """
    spec: AudioSpec | None = vocoder.spec.audio
    if spec is None:
        raise UserError(f"{run} restores samples of shape {vocoder.spec.shape}: there are scores of vocoders only")

    def show(x: Tensor) -> Tensor:
        x = x.to(vocoder.device)
        return x if vocoder.condition is None else vocoder.condition(x)

    systems = systems_of(spec, System(show, lambda c, t: vocoder(c)[..., :t]))
    sounds = data.whole(split)
    x = sounds.x[:most]
    print(f"sounds     {len(x):,} of the {split} split, {x.shape[-1] / spec.sample_rate:.1f} s each", flush=True)
    protocol = {"real": {"data": sounds.fingerprint(), "split": split}}
    result = evaluate_vocoder(systems, x, spec, metrics, protocol, {"run": str(run), **vocoder.facts}, progress=True)
    out = out or run / "evaluation" / f"vocoder_{split}_n={len(x)}"
    result.save(out / "vocoder.json")
    _draw(systems, x, spec, out / "examples.png")
    print(f"\n{table(result)}\n")
    for score in result.scores:
        if score.note:
            print(f"{score.metric}: {score.note}")
    for name, why in result.skipped.items():
        print(f"not scored: {name} ({why})")
    print(f"\n  scores    {out / 'vocoder.json'}  (protocol {result.protocol_sha256[:8]})")
    print(f"  picture   {out / 'examples.png'}")
    return out


@torch.inference_mode()
def _draw(systems: Mapping[str, System], x: np.ndarray, spec: AudioSpec, path: Path) -> None:
    """The first four sounds, of each at most four seconds."""
    length = min(x.shape[-1], 4 * spec.sample_rate)
    length -= length % spec.hop_length
    true = torch.from_numpy(np.array(x[:4, :, :length])).float() / 32768
    names = ["real", next(iter(systems)), "Griffin-Lim 60"]
    rows_sheet([torch.cat([_made(systems[name], one[None]) for one in true]) for name in names], path, spec)
