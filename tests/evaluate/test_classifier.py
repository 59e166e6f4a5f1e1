"""A classifier of the data: learns them, is kept, and says when it is damaged."""

from __future__ import annotations

import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from doors import _CONTEXT

from gan_kit.data import DigitsData, Resize, RingData
from gan_kit.evaluate import Classifier, ConvClassifier, auto_extractor, classifier_for, load_classifier
from gan_kit.evaluate.classifier import CONFIG, WEIGHTS, one_cycle
from gan_kit.types import UserError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture
def digits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> DigitsData:
    monkeypatch.setenv("GAN_KIT_CACHE", str(cache))
    return DigitsData(Resize(16), batch_size=32)


def test_it_learns_the_digits_once_and_is_kept(digits: DigitsData, cache: Path):
    found = classifier_for(digits, progress=False)
    assert found.facts["test_accuracy"] > 0.96
    assert digits.batch_size == 32
    kept = list((cache / "classifiers").glob("*/*.safetensors"))
    assert len(kept) == 1
    stamp = kept[0].stat().st_mtime_ns
    again = classifier_for(digits, progress=False)
    assert kept[0].stat().st_mtime_ns == stamp
    assert again.fingerprint == found.fingerprint
    x = torch.from_numpy(digits.arrays("test").x[:8].copy())
    assert again.features(x).equal(found.features(x))
    torch.testing.assert_close(found.probabilities(x).sum(1), torch.ones(8))


def test_a_damaged_one_is_trained_again(digits: DigitsData, cache: Path):
    before = classifier_for(digits, progress=False)
    (weights,) = (cache / "classifiers").glob(f"*/{WEIGHTS}")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        load_classifier(weights.parent)
    with pytest.warns(UserWarning, match="training another"):
        after = classifier_for(digits, progress=False)
    assert after.weights_sha256 == before.weights_sha256  # one seed, one classifier


def ask(cache: Path, name: str) -> None:
    os.environ["GAN_KIT_CACHE"] = str(cache)
    torch.set_num_threads(1)
    with (cache / name).open("w") as file, redirect_stdout(file), redirect_stderr(file):
        print(classifier_for(DigitsData(Resize(8), batch_size=32)).fingerprint)


@pytest.mark.slow
def test_of_two_that_ask_at_once_one_trains_and_the_other_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    processes = [_CONTEXT.Process(target=ask, args=(tmp_path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    a, b = ((tmp_path / name).read_text() for name in "ab")
    assert a.splitlines()[-1] == b.splitlines()[-1]
    assert (a + b).count("training one on 60,000 samples") == 1
    assert (a + b).count("another process trains") == 1
    (lock,) = (tmp_path / "classifiers").glob("*.lock")
    lock.unlink()
    lock.mkdir()  # can't be opened: as in a cache that may only be read
    monkeypatch.setenv("GAN_KIT_CACHE", str(tmp_path))
    assert classifier_for(DigitsData(Resize(8), batch_size=32)).fingerprint == a.splitlines()[-1]


def test_labelled_pictures_are_judged_by_their_classifier_and_vectors_by_themselves(digits: DigitsData):
    assert auto_extractor(digits).name == "classifier"
    assert auto_extractor(RingData(count=100)).name == "pixels"


@pytest.mark.parametrize("data", [DigitsData(Resize(8), labels=False), RingData(count=100)])
def test_without_labels_or_pictures_there_is_none(data):
    with pytest.raises(UserError, match="extractor=lite0"):
        classifier_for(data)


def test_two_classes_and_a_picture_are_the_least():
    for shape, classes in (((1, 8, 8), 1), ((1, 8, 8), 0), ((2,), 8)):
        with pytest.raises(UserError, match="labelled pictures"):
            ConvClassifier(shape, classes)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (3, 33, 65)])
def test_pictures_of_any_size(shape):
    features, logits = ConvClassifier(shape, 3).eval()(torch.zeros(2, *shape))
    assert features.shape == (2, 128)
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("text", ["", "format: 2", "format: 1", "- a list", "format: [", "weights_sha256: x"])
def test_a_config_that_is_none(text: str, tmp_path: Path):
    (tmp_path / WEIGHTS).write_bytes(b"x")
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(UserError, match=r"config.yaml|no classifier that can be read|damaged"):
        load_classifier(tmp_path)


def test_none_there():
    with pytest.raises(UserError, match="no classifier in"):
        load_classifier("nowhere")


def test_other_pictures_than_it_was_trained_on():
    from gan_kit.evaluate.classifier import ClassifierFeatures

    found = ClassifierFeatures(ConvClassifier((1, 16, 16), 10))
    for x in (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), torch.zeros(2, 1, 16, 16)):
        with pytest.raises(UserError, match=r"uint8 pictures of shape \(1, 16, 16\)"):
            found.features(x)


def test_the_cycle_rises_and_falls_to_nothing():
    values = [one_cycle(i / 100) for i in range(101)]
    assert values[0] == pytest.approx(0.04)
    assert max(values) == pytest.approx(values[30]) == pytest.approx(1)
    assert values[100] == pytest.approx(0)
    assert values[:31] == sorted(values[:31])
    assert values[30:] == sorted(values[30:], reverse=True)


def test_a_seed_is_a_net():
    a, b, c = (Classifier((1, 8, 8), 3, 100, seed=s).net.head.weight for s in (0, 0, 1))
    assert a.equal(b)
    assert not a.equal(c)
