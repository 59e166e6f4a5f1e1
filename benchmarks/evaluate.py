"""Extractor and distances beside torch-fidelity, pytorch-fid, torchmetrics and scipy: the same arrays, one process.

    python benchmarks/evaluate.py                 needs them: pip install -e '.[dev]'

The Inception runs with random weights: its speed does not depend on them. Rounds are interleaved; the medians' ratio is
what counts.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import interleaved

from gan_kit.evaluate.frechet import cov_root, frechet_distance, mean_and_cov


def row(what: str, seconds: dict[str, float], note: str = "") -> None:
    ours, *others = seconds.items()
    ratios = ", ".join(f"{name} {value:.3f} s = {value / ours[1]:.2f}x" for name, value in others)
    print(f"{what:34} ours {ours[1]:.3f} s; {ratios}  {note}", flush=True)


def distances(dims: int, rounds: int) -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance
    from scipy.linalg import sqrtm
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    g = torch.Generator().manual_seed(0)
    mixing = torch.randn(dims, dims, generator=g, dtype=torch.float64) / dims**0.5
    real, fake = (torch.randn(2 * dims, dims, generator=g, dtype=torch.float64) @ mixing + s for s in (0, 0.02))
    a, b = mean_and_cov(real), mean_and_cov(fake)
    root = cov_root(a[1])
    (m1, c1), (m2, c2) = a, b
    plain = [t.numpy() for t in (m1, c1, m2, c2)]
    found: dict[str, float] = {}

    def with_sqrtm() -> float:
        both = sqrtm((c1 @ c2).numpy()).real
        return float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * float(both.trace())

    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: frechet_distance(*a, *b),
        "our root kept": lambda: frechet_distance(*a, *b, root1=root),
        "scipy sqrtm": with_sqrtm,
        "torch-fidelity": lambda: fid_statistics_to_metric(
            {"mu": plain[0], "sigma": plain[1]}, {"mu": plain[2], "sigma": plain[3]}, False
        )["frechet_inception_distance"],
        "torchmetrics": lambda: _compute_fid(m1, c1, m2, c2),
        "pytorch-fid": lambda: calculate_frechet_distance(*plain),
    }
    quiet = contextlib.redirect_stderr(io.StringIO())  # pytorch-fid asks scipy for what newer ones have dropped

    def kept(name: str) -> Callable[[], None]:
        def run() -> None:
            with quiet:
                found[name] = float(calls[name]())

        return run

    for name in list(calls):
        try:
            kept(name)()
        except Exception as error:
            print(f"{name} can't: {type(error).__name__}: {str(error)[:80]}")
            del calls[name]
    times = interleaved(rounds, {name: kept(name) for name in calls})
    worst = max((abs(v / found["ours"] - 1), k) for k, v in found.items())
    row(f"Fréchet distance, {dims} features", times, f"; the farthest from ours: {worst[1]}, {worst[0]:.1e} of it")


def extractors(batch: int, side: int, rounds: int) -> None:
    from pytorch_fid.inception import InceptionV3
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchmetrics.image.fid import FrechetInceptionDistance

    from gan_kit.evaluate import FrechetDistance, Inception, Lite0

    with tempfile.TemporaryDirectory() as folder:
        fidelity = without_weights(lambda: FeatureExtractorInceptionV3("x", ["2048"], "none"))
        torch.save(fidelity.state_dict(), Path(folder) / "random.pth")
        ours = Inception(path=Path(folder) / "random.pth", check=False)
    ported = without_weights(InceptionV3)
    x = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    features = {
        "ours": lambda: ours.extract(x),
        "torch-fidelity": lambda: fidelity(x),
        "pytorch-fid": lambda: ported(x.float() / 255),
    }
    lite = Lite0()
    ours_fd, theirs_fd = FrechetDistance(ours), FrechetInceptionDistance(Flat(fidelity))
    with torch.inference_mode():
        row(f"Inception, {batch} pictures of {side}", interleaved(rounds, features))
        updates = {
            "ours": lambda: ours_fd.update(x, real=True),
            "torchmetrics": lambda: theirs_fd.update(x, real=True),
        }
        row(f"FID, one update of {batch}", interleaved(rounds, updates))
        both = {"ours": lambda: lite.extract(x), "our Inception": features["ours"]}
        row(f"Lite0, {batch} pictures of {side}", interleaved(rounds, both))


class Flat(torch.nn.Module):
    """torch-fidelity's network as torchmetrics takes one: pictures in, features out."""

    num_features = 2048

    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)[0]


def without_weights(make: Callable[[], Any]) -> Any:
    """Another project's network as its constructor draws it: nothing is fetched or loaded."""
    from pytorch_fid import inception

    kept = torch.load, torch.nn.Module.load_state_dict, inception.load_state_dict_from_url
    torch.load = inception.load_state_dict_from_url = lambda *a, **k: {}
    torch.nn.Module.load_state_dict = lambda *a, **k: None
    try:
        return make().eval()
    finally:
        torch.load, torch.nn.Module.load_state_dict, inception.load_state_dict_from_url = kept


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
