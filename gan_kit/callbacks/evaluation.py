"""Scores as training goes on: curves, the best generator kept, early stopping."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from gan_kit import bundle
from gan_kit.callbacks.clock import crossed, is_last_step
from gan_kit.callbacks.samples import log_image, vectors_of
from gan_kit.evaluate import suite
from gan_kit.evaluate.features import Extractor, as_stored
from gan_kit.evaluate.sets import FeatureSet, extract_all, labels_like, split_features, vectors_like
from gan_kit.evaluate.sheets import draw_history, read_history
from gan_kit.files import write_whole
from gan_kit.noise import SampleNoise
from gan_kit.types import UserError, conditional

__all__ = ["Evaluation"]


class Evaluation(Callback):
    """Every `every_samples` samples, and at the end, scores of the averaged generator against held-out data.

    extractor: an Extractor, or what makes one of the datamodule
    metrics: names from gan_kit.evaluate.suite.METRICS
    num_samples: generated for each evaluation, over all ranks; sample i is the same whatever their number
    split: the reference; "val" is never trained on, and "test" is left to the final evaluation
    best: the score whose best generator is kept in best/, null for none; patience: evaluations without a better one
        after which training stops, null for never

    Writes evaluation/history.jsonl and history.png, logs to all loggers. Training goes on as without it, bit by bit.
    """

    def __init__(
        self,
        every_samples: int,
        extractor: Callable[[Any], Any],
        metrics: Sequence[str] = ("fd",),
        num_samples: int = 5_000,
        split: str = "val",
        best: str | None = "fd",
        patience: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ):
        for name, value in (("every_samples", every_samples), ("batch_size", batch_size), ("patience", patience)):
            if value is not None and value < 1:
                raise UserError(f"{name}={value} must be positive")
        if num_samples < 2:
            raise UserError(f"num_samples={num_samples} can't be scored; at least 2, better 5000")
        if unknown := set(metrics) - suite.METRICS.keys():
            raise UserError(f"no metric {sorted(unknown)[0]!r}; have {', '.join(suite.METRICS)}")
        self.every_samples, self.num_samples, self.split = every_samples, num_samples, split
        self.make_extractor = extractor
        self.metrics = tuple(metrics)
        self.best, self.patience, self.batch_size, self.seed = best, patience, batch_size, seed
        self.extractor: Extractor | None = extractor if isinstance(extractor, Extractor) else None
        self.real: FeatureSet | None = None
        self.best_value: float | None = None
        self.best_samples = self.since_best = 0

    def prepare(self, data: Any) -> None:
        """Get the extractor ready, before training begins: a classifier may have to be trained first."""
        data.arrays(self.split)
        self.spec = data.spec
        if self.extractor is None:
            self.extractor = self.make_extractor(data)

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self.prepare(trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        assert self.extractor is not None
        if self.num_samples < trainer.world_size:
            raise UserError(f"num_samples={self.num_samples} leaves some of {trainer.world_size} processes with none")
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.extractor.to(pl_module.device)
        self.take_conditions(data)
        self.run = Path(trainer.default_root_dir)
        self.history = self.run / "evaluation" / "history.jsonl"
        if not trainer.is_global_zero:
            return
        self.real = split_features(self.extractor, data, self.split, progress=True)
        rows = read_history(self.history)
        kept = [row for row in rows if row["samples_seen"] <= pl_module.samples_seen]
        if kept != rows:  # of steps that a resumed run takes again
            write_whole(self.history, "".join(f"{json.dumps(row)}\n" for row in kept))

    def take_conditions(self, data: Any) -> None:
        """The labels or vectors of the reference: samples are drawn with the like."""
        arrays = data.arrays(self.split)
        self.labels = None if arrays.labels is None else torch.as_tensor(arrays.labels)
        self.vectors = arrays.vectors

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        due = crossed(self.every_samples, pl_module, batch, trainer) or is_last_step(trainer)
        if due and self.score(trainer, pl_module):
            trainer.should_stop = True

    def score(self, trainer: Trainer, gan: Any) -> bool:
        """Evaluate now; -> whether training is to stop, the same on all ranks."""
        fake = self.samples(trainer, gan)
        stop = False
        if trainer.is_global_zero:
            assert self.real is not None
            assert self.extractor is not None
            assert fake is not None
            spec = trainer.datamodule.spec  # type: ignore[attr-defined]
            knows = self.extractor.name == "classifier" and self.extractor.num_classes == spec.num_classes
            sets = suite.Sets(self.real, fake, name=self.extractor.name, classes=spec.class_names, knows_classes=knows)
            result = suite.evaluate(sets, self.metrics)
            self.record(trainer, gan, result)
            stop = self.judge(trainer, gan, result)
        return bool(trainer.strategy.broadcast(stop))

    def samples(self, trainer: Trainer, gan: Any) -> FeatureSet | None:
        """Features of samples 0 to num_samples, every rank's share of them brought together on rank 0."""
        assert self.extractor is not None
        spec = self.spec
        labels = wanted = None
        if conditional(gan.generator) and self.labels is not None:
            labels = wanted = torch.tensor(labels_like(self.labels, self.num_samples))
        elif conditional(gan.generator) and self.vectors is not None:
            wanted = vectors_like(self.vectors, self.num_samples)
        mine = range(trainer.global_rank, self.num_samples, trainer.world_size)

        def batches() -> Any:
            for start in range(0, len(mine), self.batch_size):
                rows = mine[start : start + self.batch_size]
                y = None if wanted is None else wanted[list(rows)].to(gan.device)
                x = spec.decode(gan.sample(SampleNoise(self.seed, rows, gan.device), y).float())
                yield as_stored(x.clamp(-1, 1))

        found = extract_all(self.extractor, batches())
        parts: list[Any] = [(list(mine), found.features, found.probabilities)]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(gathered, parts[0])
            parts = gathered
        if not trainer.is_global_zero:
            return None
        order = torch.tensor([i for rows, _, _ in parts for i in rows]).argsort()

        def whole(which: int) -> Tensor | None:
            return None if parts[0][which] is None else torch.cat([part[which] for part in parts])[order]

        features, probabilities = whole(1), whole(2)
        assert features is not None
        return FeatureSet(features, probabilities, labels)

    def record(self, trainer: Trainer, gan: Any, result: suite.Evaluation) -> None:
        row = {score.metric: score.value for score in result.scores}
        for logger in trainer.loggers:
            logger.log_metrics({f"evaluation/{k}": v for k, v in row.items()}, step=gan.samples_seen)
        self.history.parent.mkdir(parents=True, exist_ok=True)
        with self.history.open("a") as file:
            file.write(json.dumps({"samples_seen": gan.samples_seen, **row}) + "\n")
        picture = self.history.with_name("history.png")
        if draw_history(self.history, picture) and is_last_step(trainer):
            import numpy as np
            from PIL import Image

            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
            for logger in trainer.loggers:
                log_image(logger, "evaluation", pixels, gan.samples_seen)

    def judge(self, trainer: Trainer, gan: Any, result: suite.Evaluation) -> bool:
        """Keep the generator where it is the best so far; -> whether patience has run out."""
        if self.best is None:
            return False
        score = self.chosen(result)
        gain = -1 if score.better == "lower" else 1
        if not math.isfinite(score.value):
            return False
        if self.best_value is None or gain * score.value > gain * self.best_value:
            self.best_value, self.best_samples, self.since_best = score.value, gan.samples_seen, 0
            net = gan.generator if gan.generator_ema is None else gan.generator_ema
            facts = {"samples_seen": gan.samples_seen, score.metric: score.value, "split": self.split}
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            bundle.save(self.run / "best", net, gan.prior, data.spec, facts, vectors_of(data))
            return False
        self.since_best += 1
        if self.patience is None or self.since_best < self.patience:
            return False
        print(
            f"\n{score.metric} was best, {self.best_value:.4g}, at {self.best_samples:,} samples, {self.since_best} "
            f"evaluations ago: stopping; that generator is {self.run / 'best'}"
        )
        return True

    def chosen(self, result: suite.Evaluation) -> suite.Score:
        """The score that `best` names: a figure's own name, or a metric's first figure."""
        for score in result.scores:
            if self.best in (score.metric, score.group):
                return score
        raise UserError(f"no score {self.best!r} to choose the best by; have {[s.metric for s in result.scores]}")

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_samples": self.best_samples, "since_best": self.since_best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value, self.best_samples = state_dict["best_value"], state_dict["best_samples"]
        self.since_best = state_dict["since_best"]
