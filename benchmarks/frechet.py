"""What the Fréchet distance costs from moments on, against scipy.linalg.sqrtm of the product, one thread, one process.

    python benchmarks/frechet.py [--dims 2048] [--rounds 1]

Both sides take turns on the same moments; ratios are of the least CPU time of each. The moments are those of features
like a network's: non-negative, with a spectrum that falls off over six decades.
"""

from __future__ import annotations

import argparse
import os

# before torch and scipy load their own
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import platform
import time
from collections.abc import Callable

import numpy as np
import scipy
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from gan_kit.evaluate.functional import cov_root, frechet_distance, mean_and_cov


def moments(dims: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(dims, dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.logspace(0, -3, dims, dtype=torch.float64)
    mix = torch.linalg.qr(mix).Q * scale * (dims**0.5)
    x = torch.randn(4 * dims, dims, generator=g, dtype=torch.float64) @ mix.T + 0.02 * seed
    return mean_and_cov(x.relu())


def by_sqrtm(m1: Tensor, c1: Tensor, m2: Tensor, c2: Tensor) -> float:
    root = np.asarray(sqrtm((c1 @ c2).numpy())).real
    return float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * float(np.trace(root))


def clocked(call: Callable[[], float]) -> tuple[float, float]:
    start = time.process_time()
    value = call()
    return value, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    a, b = moments(args.dims, 1), moments(args.dims, 2)
    root = cov_root(a[1])
    sides: dict[str, Callable[[], float]] = {
        "sqrtm": lambda: by_sqrtm(*a, *b),
        "ours": lambda: float(frechet_distance(*a, *b)),
        "cached": lambda: float(frechet_distance(*a, *b, root1=root)),
    }
    small = moments(64, 1), moments(64, 2)  # warm-up
    by_sqrtm(*small[0], *small[1])
    frechet_distance(*small[0], *small[1])
    times: dict[str, list[float]] = {name: [] for name in sides}
    values = {}
    for _ in range(args.rounds):
        for name, call in sides.items():
            values[name], seconds = clocked(call)
            times[name].append(seconds)
    best = {name: min(seconds) for name, seconds in times.items()}
    print(
        f"frechet {args.dims}-d: {best['sqrtm'] / best['ours']:.1f}x sqrtm, reference root cached "
        f"{best['sqrtm'] / best['cached']:.1f}x; CPU-seconds sqrtm {best['sqrtm']:.1f}, ours {best['ours']:.2f}, "
        f"cached {best['cached']:.2f}; relative difference {abs(values['ours'] / values['sqrtm'] - 1):.1e} of FD "
        f"{values['ours']:.4g}; torch {torch.__version__}, scipy {scipy.__version__}, {platform.machine()}"
    )


if __name__ == "__main__":
    main()
