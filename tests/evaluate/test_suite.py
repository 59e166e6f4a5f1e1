"""The suite: what applies is scored, each figure beside its floor, and protocols that differ are told apart."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gan_kit.evaluate.sets import FeatureSet
from gan_kit.evaluate.suite import METRICS, Evaluation, Sets, evaluate, frechet_name
from gan_kit.evaluate.tables import differences, side_by_side, table
from gan_kit.types import UserError


def labelled(n: int, seed: int, classes: int = 4, spread: float = 1.0) -> FeatureSet:
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    centres = torch.eye(8)[:classes] * 6
    x = centres[y] + torch.randn(n, 8, generator=g) * spread
    p = (-torch.cdist(x, centres).square()).softmax(1)
    return FeatureSet(x, p, y)


@pytest.fixture
def sets() -> Sets:
    held = labelled(600, 2)
    return Sets(held, labelled(600, 3), labelled(1200, 1), held, "classifier", ("a", "b", "c", "d"), True)


def test_everything_that_applies_is_scored_beside_its_floor(sets: Sets):
    found = evaluate(sets, real_again=labelled(600, 5))
    assert not found.skipped
    assert {s.group for s in found.scores} == set(METRICS)
    for score in found.scores:
        assert math.isfinite(score.value), score.metric
        assert score.floor is not None
        assert math.isfinite(score.floor), score.metric
    fd = found["fd-classifier"]
    assert fd.stderr is not None
    assert abs(fd.value - fd.floor) < 10 * fd.stderr  # as good as real: what was drawn is real
    assert found["modes"].value == 4
    assert found["class_accuracy"].value > 0.95


@pytest.mark.parametrize(
    "metric, name",
    [("classes", "pixels-per-class"), ("classes", "diversity"), ("classes", "nn_distance"), ("vendi", "vendi")],
)
def test_errors_foretell_the_spread_over_draws(sets: Sets, metric: str, name: str):
    scores = []
    for seed in range(20):
        found = evaluate(Sets(labelled(2000, 2), labelled(600, 100 + seed)), [metric]).scores
        scores += [s for s in found if s.metric.endswith(name)]
    assert len(scores) == 20
    spread = statistics.stdev(s.value for s in scores)
    assert statistics.fmean(s.stderr or 0 for s in scores) == pytest.approx(spread, rel=0.5)


def test_what_can_not_be_had_is_told_and_refused_when_named(sets: Sets):
    plain = Sets(FeatureSet(sets.real.features), FeatureSet(sets.fake.features))
    found = evaluate(plain)
    assert set(found.skipped) == {"is", "modes", "accuracy", "classes", "memorisation"}
    assert "inception score needs class probabilities" in found.skipped["is"]
    with pytest.raises(UserError, match="inception score needs class probabilities"):
        evaluate(plain, ["is"])
    with pytest.raises(UserError, match="no metric 'fid'"):
        evaluate(plain, ["fid"])


def test_a_copycat_is_flagged_and_fresh_data_are_not(sets: Sets):
    assert sets.train is not None
    fresh = evaluate(sets, ["memorisation", "fd"])
    assert fresh["copies"].detail["flagged"] is False
    for share in (300, 600):
        x = sets.fake.features.clone()
        x[:share] = sets.train.features[:share]
        found = evaluate(replace(sets, fake=FeatureSet(x)), ["memorisation", "fd"])
        assert found["copies"].detail["flagged"] is True
        assert "COPIES" in table(found)
        assert found["fd-classifier"].value < 3 * fresh["fd-classifier"].value + 0.2


def test_dropped_classes_are_seen_and_named(sets: Sets):
    rows = sets.fake.labels < 2  # type: ignore[operator]
    assert isinstance(rows, torch.Tensor)
    found = evaluate(replace(sets, fake=sets.fake.rows(rows)), ["modes", "prdc"])
    whole = evaluate(sets, ["modes", "prdc"])
    assert found["modes"].value == 2
    assert found["modes"].note == "missing: c, d"
    assert found["modes_kl"].value > 0.5
    assert found["recall"].value < whole["recall"].value - 0.2
    assert found["coverage"].value < whole["coverage"].value - 0.2


def test_only_the_inceptions_distance_is_called_fid():
    assert frechet_name("inception") == "fid"
    assert frechet_name("inception-unchecked") == "fd-inception-unchecked"
    assert frechet_name("lite0") == "fd-lite0"


def test_few_samples_say_that_they_are_biased(sets: Sets):
    few = evaluate(replace(sets, fake=sets.fake.some(50)), ["fd"])
    assert "biased upwards: 50 samples for 8 features" in few["fd-classifier"].note
    assert few["fd-classifier"].value > evaluate(sets, ["fd"])["fd-classifier"].value


def test_a_record_comes_back_as_it_was(sets: Sets, tmp_path: Path):
    found = evaluate(sets, ["fd", "prdc"], protocol={"a": {"b": 1}}, subject={"seed": 0})
    found.save(tmp_path / "scores.json")
    again = Evaluation.load(tmp_path / "scores.json")
    assert again == found
    assert json.loads((tmp_path / "scores.json").read_text())["protocol_sha256"] == found.protocol_sha256
    for text in ("", "[]", '{"scores": 1}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError, match="no scores"):
            Evaluation.load(tmp_path / "bad.json")
    with pytest.raises(UserError, match="no scores"):
        Evaluation.load(tmp_path / "none.json")


def test_why_two_do_not_compare(sets: Sets):
    a = evaluate(sets, ["fd"], protocol={"extractor": {"name": "x"}})
    b = evaluate(replace(sets, fake=sets.fake.some(99)), ["fd"], protocol={"extractor": {"name": "y"}})
    assert differences(a.protocol, a.protocol) == []
    assert differences(a.protocol, b.protocol) == ["extractor.name: x against y", "n_fake: 600 against 99"]
    assert a.protocol_sha256 != b.protocol_sha256
    assert side_by_side([a, a]).count("fd-classifier") == 1


@pytest.mark.parametrize(
    "change, words",
    [
        ({"fake": FeatureSet(torch.zeros(1, 8))}, "1 generated samples"),
        ({"fake": FeatureSet(torch.zeros(9, 3))}, "different lengths"),
        ({"fake": FeatureSet(torch.full((9, 8), torch.nan))}, "NaN"),
    ],
)
def test_bad_input(sets: Sets, change: dict[str, FeatureSet], words: str):
    with pytest.raises(UserError, match=words):
        evaluate(replace(sets, **change), ["fd"])
