"""The leaderboard: its tables by made-up results, and real entries that are killed and gone on with."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gan_kit.types import UserError

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "leaderboard.py"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def report(module: Callable[[str], ModuleType]) -> ModuleType:
    return module("leaderboard_report")


def record(
    family: str, seed: int = 0, fd: float = 2.0, recipe: str = "new", protocol: str = "p" * 64
) -> dict[str, Any]:
    values = {"fd-classifier": (fd, 0.2), "kd-classifier": (0.01, 0.0), "precision": (0.5, 0.9), "recall": (0.4, 0.9)}
    scores = {name: {"value": v, "stderr": 0.1, "floor": f, "note": ""} for name, (v, f) in values.items()}
    key = {"data": "fashion_mnist", "family": family, "seed": seed, "recipe": recipe, "cpu_minutes": 10.0}
    return {
        "key": key, "scores": scores, "samples_seen": 50_000, "cpu_seconds": 660.0, "commit": "abc", "machine": "m",
        "protocol": {"n_real": 10_000, "n_fake": 10_000, "extractor": {"extractor": "classifier"}},
        "protocol_sha256": protocol,
    }  # fmt: skip


def failed(family: str, seed: int) -> dict[str, Any]:
    return {"key": record(family, seed)["key"], "failed": "loss_d is not finite", "cpu_seconds": 3.0}


def test_families_are_ranked_by_their_mean_over_seeds(report: ModuleType) -> None:
    made = [record("dcgan", 0, 3.0), record("dcgan", 1, 1.0), record("r3gan", 0, 1.5), record("r3gan", 1, 1.7)]
    lines = report.table(report.chosen(made, 10.0)["fashion_mnist"])
    assert lines[2].startswith("| `r3gan` | 50 | **1.60** (1.50, 1.70) |")
    assert lines[3].startswith("| `dcgan` | 50 | 2.00 (3.00, 1.00) |")
    assert lines[4].startswith("| *real* | | 0.20 |")
    assert len({line.count("|") for line in lines}) == 1


def test_what_leads_is_said_with_its_doubts(report: ModuleType) -> None:
    apart = {"sngan": [record("sngan", 0, 1.0), record("sngan", 1, 1.1)], "r3gan": [record("r3gan", 0, 2.0)]}
    assert report.ordering(apart) == "`sngan` leads, by each of its seeds; `r3gan` is number 2 of 2."
    near = {"sngan": [record("sngan", 0, 1.0), record("sngan", 1, 3.0)], "r3gan": [record("r3gan", 0, 2.5)]}
    assert "not told apart" in report.ordering(near)


def test_results_of_an_older_recipe_or_another_budget_are_left_out(report: ModuleType) -> None:
    other = record("dcgan", 0, 9.0)
    other["key"]["cpu_minutes"] = 1.0
    made = [
        record("dcgan", 0, 8.0, recipe="old"),
        record("dcgan", 1, 8.0, recipe="old"),
        record("dcgan", 0, 1.0),
        other,
    ]
    found = report.chosen(made, 10.0)["fashion_mnist"]["dcgan"]
    assert [r["scores"]["fd-classifier"]["value"] for r in found] == [1.0]


def test_figures_of_two_protocols_are_not_laid_side_by_side(report: ModuleType) -> None:
    with pytest.raises(UserError, match="protocols"):
        report.table({"dcgan": [record("dcgan")], "r3gan": [record("r3gan", protocol="q" * 64)]})


def test_a_failed_seed_is_told_and_not_averaged(report: ModuleType, module: Callable[[str], ModuleType]) -> None:
    data = [module("leaderboard_recipes").DATA["fashion_mnist"]]
    text = report.page([record("dcgan", 0, 2.0), failed("dcgan", 1), failed("vit", 0)], 10.0, data, "results")
    assert "| `dcgan` (failed: seed 1) | 50 | **2.00** |" in text
    assert "- `vit`, seed 0: loss_d is not finite" in text
    assert "[`dcgan`](results/leaderboard_fashion_mnist_dcgan.jpg)" in text
    assert "leaderboard_fashion_mnist_vit.jpg" not in text
    with pytest.raises(UserError, match="3 CPU-minutes"):
        report.page([record("dcgan")], 3.0, data, "")


def test_the_page_is_replaced_between_its_markers(
    report: ModuleType, module: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [module("leaderboard_recipes").DATA["fashion_mnist"]]
    (tmp_path / "results.jsonl").write_text(json.dumps(record("dcgan")) + '\n{"key": {"cut off by a ki')
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text("before\n")
    rows = tmp_path / "kept" / "rows.jsonl"
    report.write(tmp_path, rows, page, page.parent / "results", 10.0, data)
    assert page.read_text() == "before\n"
    assert report.BEGIN in capsys.readouterr().out
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.write(tmp_path, rows, page, page.parent / "results", 10.0, data)
        text = page.read_text()
        assert text.startswith(f"before\n{report.BEGIN}\n")
        assert text.endswith(f"{report.END}\nafter\n")
        assert "old" not in text
        assert text.count("**2.00**") == 1
    assert report.read(rows) == [record("dcgan")]
    (tmp_path / "results.jsonl").unlink()  # another machine, which has the kept rows only
    report.write(tmp_path, rows, page, page.parent / "results", 10.0, data)
    assert page.read_text() == text


def test_a_further_seed_has_the_samples_of_the_first(module: Callable[[str], ModuleType], tmp_path: Path) -> None:
    leaderboard, recipes = module("leaderboard"), module("leaderboard_recipes")
    first, further = (
        leaderboard.Entry(recipes.DATA["digits"], recipes.FAMILIES["dcgan"], seed, 3.0, None) for seed in (0, 1)
    )
    board = leaderboard.Leaderboard(tmp_path, 0, [{"key": first.key, "budget_samples": 12345}])
    assert board.samples_in(further) == 12345


def test_each_recipe_composes_for_each_data_set_and_is_its_own(
    module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    recipes = module("leaderboard_recipes")
    from gan_kit import _door
    from gan_kit._arguments import normalised

    digests = set()
    for family in recipes.FAMILIES.values():
        digests |= {family.digest(recipes.DATA[name]) for name in recipes.DEFAULT_DATA}
        for data in (recipes.DATA[name] for name in ("fashion_mnist", "clothing10")):  # a side each
            cfg = _door.compose("train", normalised([*family.overrides(data), *data.overrides(tmp_path)]))
            assert cfg.image_size == data.size
            assert cfg.generator._target_.startswith("gan_kit.image.")
    assert len(digests) == len(recipes.FAMILIES) * len(recipes.DEFAULT_DATA)


@pytest.mark.slow
def test_entries_are_killed_and_gone_on_with(report: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--data", "digits", "--families", "dcgan,stylegan2"]
    command += ["--seeds", "0", "--budget-samples", "1280"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    process = start()
    try:
        metrics = out / "entries" / "digits" / "dcgan" / "0" / "run" / "metrics.jsonl"
        deadline = time.monotonic() + 100
        while not (metrics.exists() or (out / "results.jsonl").exists()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        refused = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert refused.returncode == 1
        assert f"process {process.pid}" in refused.stderr
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    again = start()
    said, _ = again.communicate(timeout=200)
    assert again.returncode == 0, said
    found = report.read(out / "results.jsonl")
    assert [r["key"]["family"] for r in found] == ["dcgan", "stylegan2"], said
    assert all(r["samples_seen"] == 1280 for r in found), said
    assert (out / "entries" / "digits" / "stylegan2" / "0" / "sheet.png").exists()
    third = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "2 of 2 entries done before" in third.stdout
    assert len(report.read(out / "results.jsonl")) == 2
