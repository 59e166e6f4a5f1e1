"""What `gan_kit.cli` runs: Lightning's CLI with this house's run folders, checkpoints, scores and errors."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import itertools
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.warnings import PossibleUserWarning

from gan_kit import _door
from gan_kit._cli_errors import in_building, in_one_line
from gan_kit._converted import as_yaml, hydra_form
from gan_kit._samples import folder_name, write_samples
from gan_kit.callbacks import Evaluation, Interrupt
from gan_kit.callbacks.samples import vectors_of
from gan_kit.evaluate import Classifier, ClassifierFeatures, suite, tables
from gan_kit.evaluate.classifier import accuracy_of
from gan_kit.evaluate.sets import split_features
from gan_kit.files import write_whole
from gan_kit.runs import CLAIM, abandoned, checkpoints, claimed, locked, newest_whole
from gan_kit.strategies import how_it_ended, lost_connection  # which registers gan_ddp
from gan_kit.types import UserError

__all__ = ["CommandLine"]

RUN = "GAN_KIT_CLI_RUN"  # in the environment of the ranks that rank 0 starts: the run's folder


class Parser(LightningArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if self.exit_on_error:
            command = re.match(r"Subcommand '(\w+)'", message)
            choices = [action.choices for action in self._actions if isinstance(action.choices, dict)]
            parser = choices[0][command[1]] if command and choices else self
            keys = [action.dest for action in parser._actions]
            raise UserError(in_one_line(message, keys)) from ex
        super().error(message, ex)  # about a class's arguments: another reading of them may fit


class CommandLine(LightningCLI):
    """Reads sys.argv and does what it says. code: what the process is to exit with."""

    def __init__(self) -> None:
        self.code, self.began = 0, False
        self.claim: Path | None = None  # a folder that this run alone has taken
        self.interrupt: Interrupt | None = None
        self.trainer: Any = None
        warnings.filterwarnings("ignore", category=PossibleUserWarning)
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        if RUN in os.environ and _rank() != 0:
            _follow_rank_0()
        with contextlib.ExitStack() as self.held:  # the lock on the run's folder
            try:
                super().__init__(
                    LightningModule,
                    LightningDataModule,
                    subclass_mode_model=True,
                    subclass_mode_data=True,
                    seed_everything_default=0,
                    save_config_callback=None,
                    auto_configure_optimizers=False,
                    load_from_checkpoint_support=False,
                    parser_class=Parser,
                )
            except BaseException as error:
                if self.claim and not self.began:
                    abandoned(self.claim)
                self._explain(error)
                raise

    # ---- the arguments --------------------------------------------------------------------------------------

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        parts = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders"}
        # weights_only is not for the asking: a checkpoint never runs code
        hidden = parts | {"weights_only", "verbose", "return_predictions"}
        return {name: set(hidden) for name in ("fit", "validate", "test", "predict")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--threads", type=int | None, default=None, help="CPU threads of torch")

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        super().setup_parser(*args, **kwargs)
        predict = self._subcommand_parsers["predict"]
        predict.add_argument("--n", type=int, default=64, help="how many samples")
        predict.add_argument("--label", type=int | str | None, default=None, help="a class; null draws all evenly")
        predict.add_argument("--seed", type=int, default=0, help="sample number i of a seed is always the same")
        predict.add_argument("--psi", type=float, default=1.0, help="truncation; below 1 less varied, more typical")
        predict.add_argument("--batch_size", type=int, default=64)
        predict.add_argument("--out", type=str | None, default=None, help="a folder (default: generated/… in the run)")

    def _parse_ckpt_path(self) -> None:
        """Lightning lets a checkpoint name classes to build. Here the command line alone does."""

    # ---- building -------------------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        # what the command line names is the user's word; the name of a file is not
        words = [b for a, b in itertools.pairwise(sys.argv) if not {a, b.partition("=")[0]} & {"--config", "-c"}]
        named = {word.rpartition("=")[2] for word in words}
        for key, target in _targets(self.config[self.subcommand].as_dict()):
            if target not in named:
                _door.check_trusted(target, key)
        given = self.settings = self.config[self.subcommand]
        if given.threads:
            torch.set_num_threads(given.threads)
        if not given.trainer.default_root_dir:
            raise UserError("name the run's folder: --trainer.default_root_dir runs/mine, say")
        self.run = Path(given.trainer.default_root_dir)
        training = self.subcommand == "fit"
        self.checkpoint = _checkpoint(given.ckpt_path, self.run, needed=not training)
        if training and _rank() == 0:
            own = self.checkpoint and self.checkpoint.resolve().parent.parent == self.run.resolve()
            if given.ckpt_path == "last" or own:
                (self.run / CLAIM).mkdir(parents=True, exist_ok=True)
            else:
                self.run = self.claim = claimed(self.run)
            self.held.enter_context(locked(self.run))
            os.environ[RUN] = str(self.run)
            self.held.callback(os.environ.pop, RUN, None)
        elif training:  # a rank that writes nothing
            self.run = Path(os.environ.get(RUN, self.run))
        given.trainer.default_root_dir = str(self.run)
        loggers = given.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            arguments: Any = getattr(logger, "init_args", {})
            if "save_dir" in arguments:
                arguments.save_dir = str(self.run / (arguments.save_dir or ""))

    def instantiate_classes(self) -> None:
        with _building():
            super().instantiate_classes()
            self.model.configure_optimizers()
        self.interrupt = next((c for c in self.trainer.callbacks if isinstance(c, Interrupt)), None)
        if self.subcommand != "fit":
            if self.trainer.world_size > 1:
                raise UserError(
                    f"{self.subcommand} runs in one process: add --trainer.devices 1 --trainer.num_nodes 1 "
                    f"--trainer.strategy auto"
                )
            self.seen = _restored(self.model, self.checkpoint)
            self.model.to(self.trainer.strategy.root_device)

    # ---- the commands ---------------------------------------------------------------------------------------

    def fit(self, model: Any, datamodule: Any, ckpt_path: Any = None) -> None:
        for callback in self.trainer.callbacks:
            if hasattr(callback, "prepare"):  # may train a classifier: before anything of this run is begun
                callback.prepare(datamodule)
        datamodule.train_dataloader()  # its mistakes, before anything is announced
        self.trainer.callbacks.append(LambdaCallback(on_train_start=self._keep))  # last: the others found nothing amiss
        if self.trainer.is_global_zero:
            print(f"run    {self.run}" + (f"\nresume {self.checkpoint.name}" if self.checkpoint else ""), flush=True)
        self.trainer.fit(model, datamodule=datamodule, ckpt_path=self.checkpoint, weights_only=True)
        if hasattr(self.trainer.strategy, "disband"):
            self.trainer.strategy.disband()
        received = self.interrupt.received if self.interrupt else None
        self.code = 128 + received if received else 0
        if self.trainer.is_global_zero:
            print(f"\n{'stopped' if received else 'done'} after {model.samples_seen:,} samples")
            print(f"  go on    --ckpt_path {self.run}" if received else f"  bundle   {self.run / 'bundle'}")

    def predict(self, model: Any, datamodule: Any, ckpt_path: Any = None) -> None:
        from gan_kit.bundle import TrainedGAN

        if not hasattr(model, "generator"):
            raise UserError(f"{type(model).__name__} draws no samples; validate and test give its accuracy")
        want = self.settings
        net = model.generator if model.generator_ema is None else model.generator_ema
        gan = TrainedGAN(net, model.prior, datamodule.spec, vectors=vectors_of(datamodule))
        gan.to(self.trainer.strategy.root_device)
        out = Path(want.out) if want.out else self.run / "generated" / folder_name(want.label, want.seed, want.psi)
        write_samples(gan, out, want.n, want.label, want.seed, want.psi, want.batch_size)

    def validate(self, model: Any, datamodule: Any, ckpt_path: Any = None) -> None:
        self._score("val")

    def test(self, model: Any, datamodule: Any, ckpt_path: Any = None) -> None:
        self._score("test")

    def _score(self, split: str) -> None:
        if isinstance(self.model, Classifier):
            arrays = self.datamodule.arrays(split)
            accuracy = accuracy_of(ClassifierFeatures(self.model.net), arrays.x, arrays.y)
            print(f"accuracy {accuracy:.4f} of {len(arrays.x):,} samples of split {split}")
            return
        evaluation = next((c for c in self.trainer.callbacks if isinstance(c, Evaluation)), None)
        if evaluation is None:
            raise UserError(
                f"run.yaml has no gan_kit.callbacks.Evaluation, which says how to score: train with evaluation=fd, or "
                f"score any run with python -m gan_kit.evaluate run={self.run} split={split}"
            )
        evaluation.split = split
        result = self._scores(evaluation, {"run": str(self.run), "samples_seen": self.seen})
        p, out = result.protocol, self.run / "evaluation" / f"cli_{split}" / "scores.json"
        print(f"{p['n_fake']:,} generated samples against {p['n_real']:,} real ones of split {split}\n")
        print(tables.table(result))
        result.save(out)
        print(f"\n  scores    {out}")

    def _scores(self, evaluation: Evaluation, subject: dict[str, Any]) -> suite.Evaluation:
        """What the callback scores in training, of the model as it stands."""
        data = self.datamodule
        evaluation.prepare(data)
        extractor = evaluation.extractor
        assert extractor is not None
        extractor.to(self.model.device)
        real = split_features(extractor, data, evaluation.split, progress=True)
        evaluation.take_conditions(data)
        fake = evaluation.samples(self.trainer, self.model)
        assert fake is not None
        knows = extractor.name == "classifier" and extractor.num_classes == data.spec.num_classes
        sets = suite.Sets(real, fake, name=extractor.name, classes=data.spec.class_names, knows_classes=knows)
        protocol = {
            "extractor": extractor.protocol,
            "real": {"data": data.arrays(evaluation.split).fingerprint(), "split": evaluation.split},
            "labels": "none" if fake.labels is None else "in the reference's proportions",
            "psi": 1.0,
            "rounding": "uint8" if len(data.spec.shape) == 3 else "none",
        }
        return suite.evaluate(sets, evaluation.metrics, None, protocol, {"seed": evaluation.seed, **subject})

    # ---- around training ------------------------------------------------------------------------------------

    def _keep(self, trainer: Any, _: Any) -> None:
        """Write run.yaml, and config.yaml for the doors that look for a run's data there."""
        self.began = True
        if not trainer.is_global_zero:
            return
        whole = yaml.safe_load(self.parser.dump(self.config, skip_unset=False))[self.subcommand]
        whole = {k: v for k, v in whole.items() if k not in ("config", "ckpt_path")}
        (self.run / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_whole(self.run / "run.yaml", as_yaml(whole))
        if not (self.run / "config.yaml").exists():
            head = "# Trained by the Lightning CLI: all of the run stands in run.yaml.\n"
            data = {"seed": whole["seed_everything"], "data": hydra_form(whole["data"])}
            write_whole(self.run / "config.yaml", head + as_yaml(data))

    def _explain(self, error: BaseException) -> None:
        """Raise what says more than the error, where something does."""
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and self.began):
            received = self.interrupt.received if self.interrupt else None
            if received is None:
                raise KeyboardInterrupt from None
            print(f"stopped at once, without saving; go on with --ckpt_path {self.run}", file=sys.stderr)
            raise SystemExit(128 + received) from None
        if isinstance(error, ImportError) and not self.began:
            raise UserError(f"{error}: does each class_path name a class that is installed?") from error
        if lost_connection(error):
            if _rank() != 0:
                raise SystemExit(1) from None  # rank 0 is gone, or says the same
            who = how_it_ended(getattr(self.trainer.strategy.launcher, "procs", []), seconds=3)
            raise UserError(
                f"{who or f'a process is gone or does not answer ({str(error)[:200]})'}; what it said is above; go on "
                f"from the last checkpoint with --ckpt_path {self.run}"
            ) from error
        if isinstance(error, OSError) and self.began:
            raise UserError(_door.as_disk(error, f"--ckpt_path {self.run}")) from error


def _rank() -> int:
    return int(rank_zero_only.rank)  # type: ignore[attr-defined]


def _follow_rank_0() -> None:
    """As one of the ranks that rank 0 started on this machine: it tells of a Ctrl-C, and when it dies, so do we."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    warnings.simplefilter("ignore")  # rank 0 has said it


def _targets(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, import path) of all that a parsed config builds or calls."""
    if isinstance(node, dict):
        if isinstance(node.get("class_path"), str):
            yield key, node["class_path"]
        for name, value in node.items():
            yield from _targets(value, f"{key}.{name}".removeprefix("."))
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _targets(item, key)
    elif inspect.isroutine(node) or inspect.isclass(node):
        yield key, f"{node.__module__}.{node.__qualname__}"


def _checkpoint(given: str | None, run: Path, needed: bool) -> Path | None:
    """What `--ckpt_path` names: a file; a run, for its newest whole one; `last`, for that of `run` if there is one."""
    if given is None or given == "last":
        return newest_whole(run) if needed or (given and checkpoints(run)) else None
    path = Path(given)
    if path.is_dir():
        return newest_whole(path)
    if not path.is_file():
        raise UserError(f"ckpt_path={given}: no such checkpoint; give a file, a run's folder, or last")
    return path


def _restored(model: Any, checkpoint: Any) -> int:
    """Fill the model from a checkpoint; -> samples seen."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    try:
        model.on_load_checkpoint(saved)
        model.load_state_dict(saved["state_dict"])
    except KeyError as error:
        raise UserError(f"{checkpoint} is of no {type(model).__name__}: it has no {error}") from error
    return int(model.samples_seen)


@contextlib.contextmanager
def _building() -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(f"{in_building(str(error))} (GAN_KIT_TRACEBACK=1 shows where)") from error
