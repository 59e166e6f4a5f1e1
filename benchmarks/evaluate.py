"""Extractor and distances beside torch-fidelity, pytorch-fid, torchmetrics and scipy: the same arrays, one process.

    python benchmarks/evaluate.py                 needs them: pip install -e '.[dev]'
    python benchmarks/evaluate.py --only real     the distance on moments of real pictures' features

The Inception runs with random weights: its speed does not depend on them. Rounds are interleaved; the medians' ratio is
what counts. How long a root takes scipy depends on the covariances' spectrum, so there are three kinds of moments: of a
narrow spectrum, of six decades, and of 2048 features of Fashion-MNIST. Ours is called twice in a row: a first call
after another library waits longer for its memory. How far each result is from the reference, which squares nothing
(singular values of the QR factors of the features), stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scipy
import torch
from timing import interleaved
from torch import Tensor

from gan_kit.evaluate.frechet import cov_root, frechet_distance, mean_and_cov


def row(what: str, seconds: dict[str, float]) -> None:
    ours, *others = seconds.items()
    ratios = ", ".join(f"{name} {value:.3f} s = {value / ours[1]:.2f}x" for name, value in others)
    print(f"{what:34} ours {ours[1]:.3f} s; {ratios}", flush=True)


def narrow(dims: int) -> tuple[Tensor, Tensor]:
    """Sets of features whose covariances have eigenvalues within a few decades. (2F, F), (2F, F)"""
    g = torch.Generator().manual_seed(0)
    mixing = torch.randn(dims, dims, generator=g, dtype=torch.float64) / dims**0.5
    return tuple(torch.randn(2 * dims, dims, generator=g, dtype=torch.float64) @ mixing + s for s in (0, 0.02))


def six_decades(dims: int) -> tuple[Tensor, Tensor]:
    """Sets of features whose covariances' eigenvalues fall over six decades. (2F, F), (2F, F)"""
    g = torch.Generator().manual_seed(0)
    scales = torch.logspace(0, -3, dims, dtype=torch.float64)
    mixing = torch.randn(dims, dims, generator=g, dtype=torch.float64) * scales
    return tuple(torch.randn(2 * dims, dims, generator=g, dtype=torch.float64) @ mixing + s for s in (0, 0.02))


def real(pictures: int) -> tuple[Tensor, Tensor]:
    """2048 features of as many training and test pictures of Fashion-MNIST, (N, 2048) each: EfficientNet-Lite0's 1280,
    and the 768 channels that its four blocks of 192 give, averaged over places."""
    from gan_kit.data import FashionMNIST
    from gan_kit.evaluate import Lite0

    net, channels = Lite0(), []
    for block in net.blocks:
        if block.narrow.out_channels == 192:
            block.register_forward_hook(lambda _net, _given, out: channels.append(out.mean((2, 3))))
    sets = []
    for split in ("train", "test"):
        x = FashionMNIST().load(split).x
        rows = []
        for part in torch.tensor(x[:pictures]).split(64):
            channels.clear()
            rows.append(torch.cat([net.extract(part).features, *channels], 1))
        sets.append(torch.cat(rows).double())
    return sets[0], sets[1]


def by_singular_values(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance of features (N, F), N >= F, from the QR factors of the centred features."""
    (m1, r1), (m2, r2) = (
        (x.mean(0), torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5, mode="r")[1]) for x in (a, b)
    )
    overlap = torch.linalg.svdvals(r1 @ r2.T).sum()
    return float((m1 - m2).square().sum() + r1.square().sum() + r2.square().sum() - 2 * overlap)


def distances(what: str, features: tuple[Tensor, Tensor], rounds: int, clock: Callable[[], float]) -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance
    from scipy.linalg import sqrtm
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    a, b = (mean_and_cov(x) for x in features)
    reference = by_singular_values(*features)
    root = cov_root(a[1])
    (m1, c1), (m2, c2) = a, b
    plain = [t.numpy() for t in (m1, c1, m2, c2)]
    found: dict[str, float] = {}

    def with_sqrtm() -> float:
        both = sqrtm((c1 @ c2).numpy()).real
        return float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * float(both.trace())

    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: frechet_distance(*a, *b),
        "ours at once again": lambda: frechet_distance(*a, *b),
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
    times = interleaved(rounds, {name: kept(name) for name in calls}, clock)
    row(f"Fréchet distance, {what}", times)
    off = ", ".join(f"{name} {abs(value / reference - 1):.0e}" for name, value in found.items())
    print(f"{'':34} distance {reference:.6g}; off by, relative: {off}", flush=True)
    values = torch.linalg.eigvalsh(c1)
    print(f"{'':34} eigenvalues of the first covariance: {float(values[0]):.1e} to {float(values[-1]):.1e}", flush=True)


def extractors(batch: int, side: int, rounds: int, clock: Callable[[], float]) -> None:
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
        row(f"Inception, {batch} pictures of {side}", interleaved(rounds, features, clock))
        updates = {
            "ours": lambda: ours_fd.update(x, real=True),
            "torchmetrics": lambda: theirs_fd.update(x, real=True),
        }
        row(f"FID, one update of {batch}", interleaved(rounds, updates, clock))
        both = {"ours": lambda: lite.extract(x), "our Inception": features["ours"]}
        row(f"Lite0, {batch} pictures of {side}", interleaved(rounds, both, clock))


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
    parser.add_argument("--pictures", type=int, default=4096, help="of a set, for the moments of real features")
    parser.add_argument("--only", choices=("narrow", "six-decades", "real", "extractors"))
    parser.add_argument("--cpu-time", action="store_true", help="of all threads: for a machine that others use")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    print(f"torch {torch.__version__}, scipy {scipy.__version__}, {args.threads} threads, medians of {args.rounds}")
    moments: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "narrow": lambda: narrow(args.dims),
        "six-decades": lambda: six_decades(args.dims),
        "real": lambda: real(args.pictures),
    }
    for name, features in moments.items():
        if args.only in (None, name):
            distances(name, features(), args.rounds, clock)
    if args.only in (None, "extractors"):
        extractors(args.batch, args.side, args.rounds, clock)


if __name__ == "__main__":
    main()
