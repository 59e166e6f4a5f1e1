"""What the search for near codes costs: N random codes, a tenth planted within the radius of another, one thread.

    python benchmarks/near.py [--sizes 10000 100000 1000000] [--codes 64:6 256:24] [--seed 0]

One row for each size and each BITS:RADIUS, in a process of its own: seconds of the search and of the clusters, the
time's growth as a power of N since the size before, how far the process's peak memory rose above what making the codes
took, and the share of the planted pairs that were found.
"""

from __future__ import annotations

import argparse
import os

# before numpy loads its own
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import math
import multiprocessing
import platform
import resource
import sys
import time

import numpy as np

from gan_kit.data.prepare.hamming import clusters, near_pairs


def planted(n: int, bits: int, radius: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, W) uint64 in random order, and the pairs (N / 10, 2) that differ by 1 to `radius` bits."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << 64, (n, bits // 64), dtype=np.uint64)
    pairs = rng.permutation(n)[: n // 10 * 2].reshape(2, -1)
    copies = codes[pairs[0]]
    for row, distance in enumerate(rng.integers(1, radius + 1, len(copies))):
        for bit in rng.choice(bits, distance, replace=False):
            copies[row, bit // 64] ^= np.uint64(1 << int(bit % 64))
    codes[pairs[1]] = copies
    return codes, np.sort(pairs.T, axis=1)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(n: int, bits: int, radius: int, seed: int) -> tuple[float, float, int, int, float]:
    near_pairs(*planted(100, bits, radius, seed)[:1], radius)  # warm-up
    clusters(2, np.array([[0, 1]]))
    codes, true = planted(n, bits, radius, seed)
    before = peak_bytes()
    start = time.perf_counter()
    pairs = near_pairs(codes, radius)
    middle = time.perf_counter()
    clusters(n, pairs)
    end = time.perf_counter()
    memory = peak_bytes() - before
    recall = np.isin(true[:, 0] * n + true[:, 1], pairs[:, 0] * n + pairs[:, 1]).mean()
    return middle - start, end - middle, memory, len(pairs), float(recall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--codes", nargs="+", default=["64:6", "256:24"], metavar="BITS:RADIUS")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for bits, radius in (map(int, code.split(":")) for code in args.codes):
            last = None
            for n in args.sizes:
                seconds, joining, memory, found, recall = pool.apply(measure, (n, bits, radius, args.seed))
                growth = f", N^{math.log(seconds / last[1]) / math.log(n / last[0]):.2f}" if last else ""
                last = n, seconds
                print(
                    f"near {n:,} codes of {bits} bits, radius {radius}: {seconds:.2f} s{growth}, "
                    f"clusters {joining:.2f} s, peak +{memory / 2**20:.0f} MiB, "
                    f"recall {recall:.4f} of {n // 10:,} planted, {found:,} pairs; "
                    f"numpy {np.__version__}, {platform.machine()}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
