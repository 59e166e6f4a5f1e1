"""A small classifier of the user's own data as extractor, for data that ImageNet's features say nothing of.

Donahue, McAuley, Puckette 2019 ("Adversarial audio synthesis", section 5.1) judge spoken digits so. Its scores are
called fd-classifier and compare only under one and the same classifier: its weights' hash is part of their protocol.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import json
import logging
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as L
import numpy as np
import torch
import torch.nn.functional as F
import yaml
from lightning.pytorch.callbacks import LambdaCallback
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

import gan_kit
from gan_kit.evaluate.classifier_nets import ConvClassifier, MelClassifier
from gan_kit.evaluate.features import Extracted, Extractor, Pixels
from gan_kit.evaluate.mel_statistics import MelStatistics
from gan_kit.files import cache_home, one_at_a_time, sha256_of, write_whole
from gan_kit.noise import mix
from gan_kit.types import AudioSpec, Batch, DataSpec, UserError

__all__ = [
    "Classifier",
    "ClassifierFeatures",
    "ConvClassifier",
    "MelClassifier",
    "auto_extractor",
    "classifier_for",
    "load_classifier",
]

WEIGHTS, CONFIG = "classifier.safetensors", "config.yaml"
FORMAT = 1
NETS: dict[str, type[ConvClassifier] | type[MelClassifier]] = {
    net.__name__: net for net in (ConvClassifier, MelClassifier)
}


class Labelled(Protocol):
    """The part of a datamodule that is needed here."""

    spec: DataSpec

    def arrays(self, split: str) -> Any: ...


class Classifier(L.LightningModule):
    """Trains a classifier on a labelled data set's train split; cross-entropy, AdamW, one cycle of the lr.

    shape, num_classes: of the data; budget_samples: where the cycle ends; seed: initial weights, dropout, masks
    audio: of sounds, which a `MelClassifier` looks at; pictures have none
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        budget_samples: int,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        label_smoothing: float = 0.05,
        seed: int = 0,
        audio: AudioSpec | None = None,
    ):
        super().__init__()
        self.net: ConvClassifier | MelClassifier = (
            ConvClassifier(tuple(shape), num_classes)
            if audio is None
            else MelClassifier(tuple(shape), num_classes, dataclasses.asdict(audio))
        )
        self.budget_samples, self.lr, self.weight_decay = budget_samples, lr, weight_decay
        self.label_smoothing, self.seed = label_smoothing, seed
        self.step, self.samples_seen = 0, 0
        self.scalars: dict[str, Tensor] = {}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net.reset_parameters()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch.y is None:
            raise UserError("a classifier needs labels; set data.labels=true, or evaluate with extractor=lite0")
        done = self.samples_seen / self.budget_samples
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.lr * one_cycle(done)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(mix(self.seed, self.step))  # dropout and masks, the same in a resumed run
            _, logits = self.net(batch.x)
        loss = F.cross_entropy(logits, batch.y, label_smoothing=self.label_smoothing)
        self.scalars = {"loss": loss.detach(), "accuracy": (logits.argmax(1) == batch.y).float().mean()}
        self.step += 1
        self.samples_seen += len(batch.x) * self.trainer.world_size
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.net.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["classifier"] = {"step": self.step, "samples_seen": self.samples_seen, "net": self.net.init_args}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["classifier"]
        if saved["net"] != self.net.init_args:
            raise UserError(f"the checkpoint holds another classifier: {saved['net']}, here {self.net.init_args}")
        self.step, self.samples_seen = saved["step"], saved["samples_seen"]

    def save_bundle(self, folder: Path, data: Labelled, facts: dict[str, Any]) -> None:
        """Write the classifier with its accuracy on the test split, in place of one that stands there."""
        train, test = data.arrays("train"), data.arrays("test")
        training = self.net.training
        accuracy = accuracy_of(ClassifierFeatures(self.net.eval()), test.x, test.y)
        self.net.train(training)
        facts = {
            **facts,
            "samples_seen": self.samples_seen,
            "test_accuracy": round(accuracy, 5),
            "test_samples": len(test.x),
            "data_fingerprint": train.fingerprint(),
        }
        part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            weights = {k: v.detach().cpu().contiguous() for k, v in self.net.state_dict().items()}
            save_file(weights, part / WEIGHTS)
            config = {
                "format": FORMAT,
                "gan_kit": gan_kit.__version__,
                "net": type(self.net).__name__,
                "args": self.net.init_args,
                "class_names": list(data.spec.class_names),
                "facts": facts,
                "weights_sha256": sha256_of(part / WEIGHTS),
            }
            write_whole(part / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
            replace_folder(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def replace_folder(part: Path, folder: Path) -> None:
    """Rename `part` to `folder`; where another process has just done so, its folder stays."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        if folder.exists():
            os.replace(folder, old)
        os.replace(part, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def one_cycle(done: float, warm: float = 0.3, first: float = 0.04) -> float:
    """The lr's share at `done` in [0, 1]: up from `first` until `warm`, then down to 0 (Smith 2018), half cosines."""
    if done < warm:
        return first + (1 - first) * 0.5 * (1 - math.cos(math.pi * done / warm))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warm) / (1 - warm))))


class ClassifierFeatures(Extractor):
    """A trained classifier as extractor: its last hidden layer, its probabilities.

    x: (B, C, H, W) uint8, of sounds (B, C, T) int16, of the shape it was trained on
    facts: what is known of it (test_accuracy, data_fingerprint, ...)
    """

    name = "classifier"

    def __init__(
        self, net: ConvClassifier | MelClassifier, weights_sha256: str = "", facts: dict[str, Any] | None = None
    ):
        super().__init__()
        self.net = net
        self.dims, self.num_classes = net.dims, net.num_classes
        self.weights_sha256, self.facts = weights_sha256, facts or {}
        self.train(False)

    def settings(self) -> dict[str, Any]:
        return {"audio": dataclasses.asdict(self.net.spec)} if isinstance(self.net, MelClassifier) else {}

    def extract(self, x: Tensor) -> Extracted:
        if x.dtype != self.net.stored or tuple(x.shape[1:]) != self.net.shape:
            takes, other = ("int16 sounds", "mel") if self.net.stored == torch.int16 else ("uint8 pictures", "lite0")
            raise UserError(
                f"this classifier takes {takes} of shape {self.net.shape}, not {x.dtype} {tuple(x.shape[1:])}; "
                f"evaluate with extractor={other}, or train one on such data"
            )
        features, logits = self.net(self.net.scaled(x.to(next(self.net.parameters()).device)))
        return Extracted(features, logits.softmax(1))


@torch.inference_mode()
def accuracy_of(extractor: Extractor, x: np.ndarray, y: np.ndarray, batch_size: int = 500) -> float:
    right = 0
    for start in range(0, len(x), batch_size):
        found = extractor.probabilities(torch.from_numpy(np.ascontiguousarray(x[start : start + batch_size])))
        right += int((found.argmax(1).cpu() == torch.from_numpy(y[start : start + batch_size])).sum())
    return right / len(x)


def load_classifier(folder: Path | str) -> ClassifierFeatures:
    """From a classifier's bundle, or a run that trained one. Raises UserError where there is none or it is damaged."""
    folder = Path(folder)
    if not (folder / WEIGHTS).is_file() and (folder / "bundle" / WEIGHTS).is_file():
        folder = folder / "bundle"
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        raise UserError(
            f"no classifier in {folder}; train one: python -m gan_kit.train +experiment=classifier/folder "
            f"data.root=DIR (or classifier/sound_folder, classifier/digits, classifier/drums, …)"
        )
    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise UserError(f"{folder / CONFIG} has format {config['format']!r}; this gan_kit reads {FORMAT}")
        if sha256_of(folder / WEIGHTS) != config["weights_sha256"]:
            raise UserError(f"{folder / WEIGHTS} is damaged: its SHA-256 is not the one in {CONFIG}; train it again")
        net = NETS[config.get("net", "ConvClassifier")](**config["args"])
        net.load_state_dict(load_file(folder / WEIGHTS))
    except (yaml.YAMLError, UnicodeDecodeError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{folder} holds no classifier that can be read ({error}); train it again") from error
    return ClassifierFeatures(net, config["weights_sha256"], config["facts"])


def classifier_for(
    data: Any, path: Path | str | None = None, seed: int = 0, progress: bool = True
) -> ClassifierFeatures:
    """The classifier at `path`, else one of a labelled datamodule's train split: from the cache, or trained now.

    Raises UserError for data without labels.
    """
    if path is not None:
        return load_classifier(path)
    if data is None:
        raise UserError(
            "two folders of pictures have no classifier of their own; give extractor.path=runs/classifier/…"
        )
    if getattr(data, "labelled", None) is not None:  # a judge knows the labels that are hidden from the training
        data = copy.copy(data)
        data.labelled, data._hidden, data._arrays = None, False, {}
    train, audio = data.arrays("train"), data.spec.audio
    if train.y is None or (audio is None and len(data.spec.shape) != 3):
        raise UserError(
            f"no classifier can be trained on data without labels, or of neither pictures nor sounds (shape "
            f"{data.spec.shape}, {data.spec.num_classes} classes); choose extractor=lite0 or extractor=inception, for "
            f"sounds extractor=mel"
        )
    budget = min(max(6 * len(train.x), 60_000), 600_000)
    recipe: dict[str, Any] = {"data": train.fingerprint(), "format": FORMAT, "budget": budget, "seed": seed}
    if audio is not None:
        recipe["audio"] = dataclasses.asdict(audio)
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_home() / "classifiers" / key
    if (folder / CONFIG).is_file():
        with contextlib.suppress(UserError):
            return load_classifier(folder)
    with one_at_a_time(folder.with_suffix(".lock"), f"another process trains {folder}: waiting for it"):
        if (folder / CONFIG).is_file():
            try:
                return load_classifier(folder)
            except UserError as error:
                warnings.warn(f"{error}: training another", stacklevel=2)
                shutil.rmtree(folder, ignore_errors=True)
        if progress:
            print(f"no classifier of these data yet: training one on {budget:,} samples (kept in {folder})", flush=True)
        _train(data, budget, seed, progress, folder)
    return load_classifier(folder)


def _train(data: Any, budget: int, seed: int, progress: bool, folder: Path) -> None:
    """A classifier of the train split, into `folder`."""
    twin, audio = copy.copy(data), data.spec.audio  # the same arrays in batches of its own
    twin.trainer, twin.batch_size, twin.hflip, twin.seed = None, min(128, len(data.arrays("train").x)), False, seed
    if audio is not None:  # waves, a little earlier or later, louder or quieter
        twin.pictures, twin.gain_db, twin.polarity = None, 6.0, False
        twin.shift_samples = audio.clip_samples // 20
    module = Classifier(twin.spec.shape, data.spec.num_classes, budget, seed=seed, audio=audio)
    level = logging.getLogger("lightning.pytorch").level
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            tqdm(total=budget, desc="classifier", unit=" samples", disable=None if progress else True) as bar,
        ):
            warnings.simplefilter("ignore")
            trainer = L.Trainer(
                accelerator="auto", devices=1, max_epochs=-1, max_steps=math.ceil(budget / twin.batch_size),
                logger=False, enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0,
                enable_progress_bar=False, use_distributed_sampler=False,
                callbacks=[LambdaCallback(on_train_batch_end=lambda *_: bar.update(twin.batch_size))],
            )  # fmt: skip
            trainer.fit(module, datamodule=twin)
    except SystemExit:
        raise KeyboardInterrupt from None  # Lightning has turned it into an exit
    finally:
        logging.getLogger("lightning.pytorch").setLevel(level)
    module.save_bundle(folder, twin, {"seed": seed})


def auto_extractor(data: Any) -> Extractor:
    """What a datamodule's samples are best judged by: their own classifier where they have labels, the FID's Inception
    for other pictures, statistics of the mel bands for other sounds, the values themselves for vectors."""
    spec = None if data is None else data.spec
    if spec is not None and spec.audio is None and len(spec.shape) == 1:
        return Pixels(spec.shape)
    if hasattr(data, "one_channel"):
        from gan_kit.evaluate.stacked import stacked_classifier

        return stacked_classifier(data)
    if spec is not None and spec.num_classes > 1 and (spec.audio is not None or len(spec.shape) == 3):
        return classifier_for(data)
    if spec is not None and spec.audio is not None:
        return MelStatistics(spec.audio)
    from gan_kit.evaluate.inception import Inception

    return Inception()
