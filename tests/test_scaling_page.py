"""docs/scaling.md's prediction is what its command prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_prediction_is_that_of_the_command() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "scaling.py", "--only", "gpus"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| `")]
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert len(rows) == 15
    for row in rows:
        assert row in page
