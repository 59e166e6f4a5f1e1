"""python -m gan_kit.evaluate, and scores while training, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from doors import run
from PIL import Image

import gan_kit


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def env(home: Path, judges: Path) -> dict[str, str | None]:
    return {"GAN_KIT_CACHE": str(judges), "GAN_KIT_RUNS": str(home / "runs")}


SETTINGS = ["+experiment=image/digits", "logger=none", "trainer=cpu", "data.batch_size=16", "sample_columns=2"]


def train(home: Path, env: dict[str, str | None], name: str, *settings: str) -> Path:
    folder = home / name
    done = run("train", *SETTINGS, *settings, f"paths.output_dir={folder}", cwd=home, env=env)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def digits(home: Path, env: dict[str, str | None]) -> Path:
    return train(home, env, "plain", "budget_samples=160", "data.val_fraction=0.1")


def evaluate(home: Path, env: dict[str, str | None], *settings: str, fails: bool = False) -> str:
    done = run("evaluate.__main__", *settings, cwd=home, env=env)
    assert done.returncode == (2 if fails else 0), done.stderr
    if fails:
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("error: ")
    return done.stderr if fails else done.stdout


def test_a_run_is_scored_with_nothing_given(digits: Path, home: Path, env: dict[str, str | None]):
    said = evaluate(home, env, f"run={digits}", "num_samples=200")
    out = digits / "evaluation" / "classifier_test_n=200"
    record = json.loads((out / "scores.json").read_text())
    scores = {s["metric"]: s for s in record["scores"]}
    for name in (
        "fd-classifier",
        "kd-classifier",
        "is-classifier",
        "recall",
        "modes",
        "class_accuracy",
        "authenticity",
    ):
        assert name in said
        assert scores[name]["floor"] is not None
    assert scores["fd-classifier"]["value"] > 5 * scores["fd-classifier"]["floor"]  # ten steps of training
    assert record["protocol"]["real"]["split"] == "test"
    assert record["protocol"]["n_fake"] == 200
    for picture in ("nearest.png", "classes.png", "precision_recall.png"):
        with Image.open(out / picture) as image:
            assert image.width > 100
    again = evaluate(home, env, f"run={digits}", "num_samples=200", "batch_size=7", f"out={home / 'again'}")
    assert json.loads((home / "again" / "scores.json").read_text())["protocol_sha256"] == record["protocol_sha256"]
    assert "training one" not in again
    said = evaluate(home, env, f"compare=[{digits},{home / 'again'}]")
    assert "fd-classifier" in said


def test_protocols_that_differ_are_not_compared(digits: Path, home: Path, env: dict[str, str | None]):
    for n in (50, 60):
        evaluate(home, env, f"run={digits}", f"num_samples={n}", "metrics=[fd]", f"out={home / str(n)}")
    said = evaluate(home, env, f"compare=[{home / '50'},{home / '60'}]", fails=True)
    assert "n_fake: 50 against 60" in said


def folder(path: Path, seed: int, n: int = 30, side: int = 16, mode: str = "RGB") -> Path:
    path.mkdir(exist_ok=True)
    for i in range(n):
        pixels = np.random.default_rng((seed, i)).integers(0, 255, (side, side, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(path / f"{i}.png")
    return path


def test_two_folders_of_any_tools_pictures(home: Path, env: dict[str, str | None]):
    a, b = folder(home / "a", 1), folder(home / "b", 2)
    said = evaluate(home, env, f"real={a}", f"fake={b}", "extractor=random", "metrics=[fd,kid,prdc]")
    assert "fd-random" in said
    assert (home / "b_evaluation" / "random" / "precision_recall.png").stat().st_size > 1000
    np.savez(home / "b.npz", np.stack([np.asarray(Image.open(b / f"{i}.png")) for i in sorted(range(30), key=str)]))
    for fake, out in ((b, "x"), (home / "b.npz", "y")):
        evaluate(home, env, f"real={a}", f"fake={fake}", "extractor=random", "metrics=[fd]", f"out={home / out}")
    x, y = (json.loads((home / name / "scores.json").read_text())["scores"][0]["value"] for name in "xy")
    assert x == pytest.approx(y, rel=1e-9)


def test_a_third_folder_tells_what_real_pictures_score(home: Path, env: dict[str, str | None]):
    real, fake, more = folder(home / "r", 1, 60), folder(home / "f", 2, 40, mode="L"), folder(home / "m", 3, 50)
    given = ["extractor=random", "metrics=[fd]", "channels=3", f"real={real}", f"fake={fake}"]
    evaluate(home, env, *given, f"floor={more}", f"out={home / 'floored'}")
    (score,) = json.loads((home / "floored" / "scores.json").read_text())["scores"]
    assert 0 < score["floor"] < score["value"]
    assert "floor=" in evaluate(home, env, *given, f"floor={real}", fails=True)


def test_statistics_stand_for_the_pictures_they_are_of(home: Path, env: dict[str, str | None]):
    a, b = folder(home / "sa", 1), folder(home / "sb", 2)
    given = ["extractor=random", "metrics=[fd]", f"fake={b}"]
    evaluate(home, env, "extractor=random", f"real={a}", f"statistics={home / 'a.npz'}")
    assert set(np.load(home / "a.npz")) == {"mu", "sigma"}
    said = evaluate(home, env, *given, f"real={home / 'a.npz'}", f"out={home / 'by_moments'}")
    assert "fd-random" in said
    evaluate(home, env, *given, f"real={a}", f"out={home / 'by_pictures'}")
    by = [json.loads((home / n / "scores.json").read_text())["scores"][0] for n in ("by_moments", "by_pictures")]
    assert by[0]["value"] == pytest.approx(by[1]["value"], rel=1e-6)
    said = evaluate(home, env, *given[:1], given[2], f"real={home / 'a.npz'}", "metrics=[prdc]", fails=True)
    assert "mean and covariance only" in said
    assert "another extractor" in evaluate(
        home, env, "extractor=random", "extractor.dims=8", f"fake={b}", f"real={home / 'a.npz'}", fails=True
    )
    for name, arrays in {
        "skew": {"mu": np.zeros(2), "sigma": np.array([[1.0, 0.5], [0.0, 1.0]])},
        "nan": {"mu": np.zeros(2), "sigma": np.full((2, 2), np.nan)},
        "flat": {"mu": np.zeros(2), "sigma": np.zeros(2)},
    }.items():
        np.savez(home / f"{name}.npz", **arrays)
        assert f"{name}.npz" in evaluate(home, env, *given, f"real={home / name}.npz", fails=True)
    (home / "cut.npz").write_bytes((home / "a.npz").read_bytes()[:-300])
    assert "cut.npz" in evaluate(home, env, *given, f"real={home / 'cut.npz'}", fails=True)


@pytest.mark.parametrize(
    "settings, words",
    [
        (["metrics=[fdd]"], "did you mean fd"),
        (["metric=fd"], "no such setting 'metric'"),
        (["num_samples=1"], "num_samples=1 must be at least 2"),
        (["split=tset"], "no split 'tset'"),
        (["device=warp"], "no such device"),
        (["extractor=nothing"], "no extractor 'nothing'"),
        (["run=nowhere"], "there is no folder nowhere"),
        (["fd"], "is not key=value"),
        (["compare=[a]"], "at least two"),
        (["fake=a"], "fake= needs real="),
        (["extractor=classifier", "extractor.path=nowhere"], "no classifier in nowhere"),
        (["psi=-1"], "psi=-1"),
    ],
)
def test_mistakes_are_one_line(digits: Path, home: Path, env: dict[str, str | None], settings: list[str], words: str):
    given = (
        settings
        if any("run=" in s or "fake=" in s or "compare" in s for s in settings)
        else [f"run={digits}", *settings]
    )
    assert words in evaluate(home, env, *given, fails=True)


def test_folders_that_do_not_compare(home: Path, env: dict[str, str | None]):
    a, small, grey = folder(home / "a1", 1), folder(home / "a2", 1, side=8), folder(home / "a3", 1, mode="L")
    said = evaluate(home, env, f"real={a}", f"fake={small}", "extractor=random", fails=True)
    assert "image_size=16" in said
    said = evaluate(home, env, f"real={a}", f"fake={grey}", "extractor=random", fails=True)
    assert "channels=3" in said
    said = evaluate(home, env, f"real={a}", f"fake={small}", fails=True)
    assert "image_size" in said


def test_missing_weights_offline(home: Path, env: dict[str, str | None]):
    a, b = folder(home / "a4", 1), folder(home / "b4", 2)
    there = {**env, "https_proxy": "http://127.0.0.1:9", "GAN_KIT_WEIGHTS": str(home / "weights")}
    said = evaluate(home, there, f"real={a}", f"fake={b}", fails=True)
    for part in ("pt_inception-2015-12-05-6726825d.pth", str(home / "weights"), "extractor=lite0"):
        assert part in said


# ---- while training -------------------------------------------------------------------------------------------


def weights(run_: Path) -> bytes:
    return (run_ / "bundle" / "generator.safetensors").read_bytes()


def test_a_run_with_scores_is_the_run_without_bit_by_bit(digits: Path, home: Path, env: dict[str, str | None]):
    scored = train(home, env, "scored", "budget_samples=160", "evaluation=all", "evaluate_every=80")
    assert weights(scored) == weights(digits)
    rows = [json.loads(line) for line in (scored / "evaluation" / "history.jsonl").read_text().splitlines()]
    assert [row["samples_seen"] for row in rows] == [80, 160]
    assert {"fd-classifier", "precision", "recall"} <= rows[0].keys()
    assert (scored / "evaluation" / "history.png").exists()
    best = min(rows, key=lambda row: row["fd-classifier"])
    assert gan_kit.load(scored / "best").facts["samples_seen"] == best["samples_seen"]


def test_a_resumed_run_has_the_history_of_one_that_was_not(home: Path, env: dict[str, str | None]):
    settings = ["evaluation=fd", "evaluate_every=80", "schedule_samples=240"]
    whole = train(home, env, "whole", "budget_samples=240", *settings)
    part = train(home, env, "part", "budget_samples=80", *settings)
    done = run("train", f"resume={part}", "budget_samples=240", cwd=home, env=env)
    assert done.returncode == 0, done.stderr
    assert (part / "evaluation" / "history.jsonl").read_text() == (whole / "evaluation" / "history.jsonl").read_text()
    assert weights(part) == weights(whole)


def test_patience_ends_a_training_that_gets_no_better(home: Path, env: dict[str, str | None]):
    still = ["optimizer.g.lr=0.0", "optimizer.d.lr=0.0", "model.schedules=null", "model.ema=null"]
    folder_ = home / "patient"
    done = run(
        "train", *SETTINGS, *still, "budget_samples=1600", "evaluation=fd", "evaluate_every=16",
        "callbacks.evaluation.patience=2", f"paths.output_dir={folder_}", cwd=home, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "fd-classifier was best" in done.stdout
    assert len((folder_ / "evaluation" / "history.jsonl").read_text().splitlines()) == 3
    assert (folder_ / "checkpoints" / "samples=000000000048.ckpt").exists()


@pytest.mark.parametrize(
    "settings, words",
    [
        (["data.val_fraction=0.0"], "data.val_fraction=0.1"),
        (["callbacks.evaluation.metrics=[fdd]"], "no metric 'fdd'"),
        (["callbacks.evaluation.patience=0"], "patience=0"),
        (["evaluate_every=0"], "evaluate_every=0 must be positive"),
        (["data.labels=false"], "could not be downloaded"),
    ],
)
def test_mistakes_before_training(settings: list[str], words: str, home: Path, env: dict[str, str | None]):
    there = {**env, "https_proxy": "http://127.0.0.1:9"}
    done = run("train", *SETTINGS, "budget_samples=16", "evaluation=fd", *settings, cwd=home, env=there)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
