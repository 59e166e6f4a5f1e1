"""What the scores hold beside the features: bounded by F and the block, not by N."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# in a process of its own, as the peak of a process never falls; features are one half of what fp64 copies would be
SCRIPT = """
import sys, torch
from pathlib import Path
from gan_kit.evaluate import functional as f

torch.set_num_threads(1)
def status(what):  # of this program alone: getrusage's peak is that of the process that started it, too
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 2**20

n, few, dims = 120_000, 1000, 512
a, b = torch.randn(n, dims), torch.randn(n, dims)
y = torch.arange(n) % 20
f.frechet_distance_of(a[:600], b[:600]), f.nearest(a[:few], b[:few]), f.prdc(a[:few], b[:few])  # what libraries load
before = status("VmRSS")  # not the peak: what was higher before would hide as much of a copy
for call in sys.argv[1:]:
    eval(call)
    print(status("VmHWM") - before, call, flush=True)
"""

BAR = 0.44  # an fp64 copy of one side is 0.46 GiB

# a process each: a peak is that of all calls before it, too, so none may be above the bar
CALLS = {
    "distances": [
        "f.mean_and_cov(a)",
        "f.frechet_distance_of(a, b)",
        "f.frechet_with_error(a, b)",
        "f.frechet_infinity(a, b)",
        "f.class_frechet_distances(a, y, b, y)",
    ],
    "neighbours": [
        "f.nearest(a[:4000], b, 5)",
        "f.prdc(a[:9000], b[:9000])",
        "f.prdc(a[:25_000, :4].clone(), b[:25_000, :4].clone())",  # their distances would be 5 GiB
        "f.authenticity(a[:20_000], b[:few])",
        "f.memorisation_distance(a, b[:few])",
        "f.copy_share(a, b[:few], b[few:2*few])",
        "f.data_copying_ct(a, b[:few], b[few:2*few])",
    ],
    "others": [
        "f.kernel_distance(a, b, subsets=10)",
        "f.intra_class_diversity(a, y, b, y)",
        "f.vendi_score(a)",
    ],
}


pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")]


def peaks(tmp_path: Path, calls: list[str]) -> dict[str, float]:
    """GiB that the process held at most until each had returned, beyond the features"""
    root = str(Path(__file__).resolve().parents[2])
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, *calls],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))},
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=True,
    )  # fmt: skip
    lines = (line.split(maxsplit=1) for line in found.stdout.splitlines())
    return {call: float(peak) for peak, call in lines}


@pytest.mark.parametrize("name", CALLS)
def test_no_copy_of_the_features_is_made(name, tmp_path):
    found = peaks(tmp_path, CALLS[name])
    assert list(found) == CALLS[name]
    # the blocks of the neighbours take most of what is used
    assert {call: peak for call, peak in found.items() if peak >= BAR} == {}


def test_a_copy_would_be_told(tmp_path):
    assert peaks(tmp_path, ["f.mean_and_cov(a.double())"]).popitem()[1] > BAR
