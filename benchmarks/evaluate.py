"""Extractor and Fréchet distance beside torch-fidelity's and scipy's, on the same arrays, in one process.

    python benchmarks/evaluate.py                 needs torch-fidelity and scipy (both in the dev extra)

The Inception runs with random weights: its speed does not depend on them. Rounds are interleaved; the medians' ratio is
what counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gan_kit.evaluate.frechet import cov_root, frechet_distance, mean_and_cov


def interleaved(rounds: int, **calls: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each; the first round warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if i:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}


def row(what: str, seconds: dict[str, float], note: str = "") -> None:
    ours, *others = seconds.items()
    ratios = ", ".join(f"{name} {value:.3f} s = {value / ours[1]:.2f}x" for name, value in others)
    print(f"{what:34} ours {ours[1]:.3f} s; {ratios}  {note}", flush=True)


def distances(dims: int, rounds: int) -> None:
    from scipy.linalg import sqrtm

    g = torch.Generator().manual_seed(0)
    mixing = torch.randn(dims, dims, generator=g, dtype=torch.float64) / dims**0.5
    real, fake = (torch.randn(2 * dims, dims, generator=g, dtype=torch.float64) @ mixing + s for s in (0, 0.02))
    a, b = mean_and_cov(real), mean_and_cov(fake)
    root = cov_root(a[1])
    found: dict[str, float] = {}

    def with_sqrtm() -> None:
        (m1, c1), (m2, c2) = a, b
        both = sqrtm((c1 @ c2).numpy()).real
        found["scipy"] = float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * float(both.trace())

    def ours() -> None:
        found["ours"] = float(frechet_distance(*a, *b))

    times = interleaved(
        rounds, ours=ours, cached_root=lambda: frechet_distance(*a, *b, root1=root), scipy_sqrtm=with_sqrtm
    )
    row(
        f"Fréchet distance, {dims} features",
        times,
        f"relative difference {abs(found['ours'] / found['scipy'] - 1):.1e}",
    )


def extractors(batch: int, side: int, rounds: int) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from gan_kit.evaluate import Inception, Lite0

    with tempfile.TemporaryDirectory() as folder:
        theirs, path = theirs_and_weights(FeatureExtractorInceptionV3, Path(folder))
        ours = Inception(path=path, check=False)
    x = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    calls: dict[str, Callable[[], Any]] = {"ours": lambda: ours.extract(x), "torch_fidelity": lambda: theirs(x)}
    with torch.inference_mode():
        row(f"Inception, {batch} pictures of {side}", interleaved(rounds, **calls))
        lite = Lite0()
        row(
            f"Lite0, {batch} pictures of {side}",
            interleaved(rounds, ours=lambda: lite.extract(x), **{"our Inception": calls["ours"]}),
        )


def theirs_and_weights(kind: Any, folder: Path) -> tuple[Any, Path]:
    """Their network with random weights, and a file that gives ours the same."""
    load, kind_load = torch.load, kind.load_state_dict
    torch.load, kind.load_state_dict = lambda *a, **k: {}, lambda *a, **k: None
    try:
        net = kind("x", ["2048"], feature_extractor_weights_path="none")
    finally:
        torch.load, kind.load_state_dict = load, kind_load
    torch.save(net.state_dict(), folder / "random.pth")
    return net, folder / "random.pth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dims", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads")
    distances(args.dims, args.rounds)
    extractors(args.batch, args.side, args.rounds)


if __name__ == "__main__":
    main()
