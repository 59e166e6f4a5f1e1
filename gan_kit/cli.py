"""The Lightning CLI over the same classes: python -m gan_kit.cli fit --config runs/NAME/TIME/run.yaml"""

from __future__ import annotations

import sys

from gan_kit import _door
from gan_kit.types import UserError

COMMANDS = ("fit", "validate", "test", "predict")

HELP = """\
Train, score and sample by the Lightning CLI, from the run.yaml that every training leaves in its folder.

  python -m gan_kit.cli fit      --config run.yaml [--trainer.max_steps 100 ...]   train, into a new folder
  python -m gan_kit.cli validate --config run.yaml    score its newest checkpoint on the held-out split
  python -m gan_kit.cli test     --config run.yaml    the same on the test split
  python -m gan_kit.cli predict  --config run.yaml [--n 64 --label 3 --seed 0 --psi 1.0 --out DIR]   draw samples

  python -m gan_kit.train +experiment=NAME --print-cli > run.yaml     an experiment's run.yaml, without training

Flags, after --config:
  --trainer.devices 8 --trainer.num_nodes 4 --trainer.strategy gan_ddp    all of Lightning's Trainer
  --trainer.default_root_dir DIR       the run's folder; where DIR is a run already, DIR-2
  --model.generator.width 64 --data.batch_size 128                        arguments of what run.yaml names
  --ckpt_path FILE|DIR|last            go on from a checkpoint, a run's newest, or the run's own newest if it has one
  --threads 2   --seed_everything 0

  python -m gan_kit.cli fit --help     every flag with its type
  python -m gan_kit.cli fit --config run.yaml --print_config
"""


def main() -> None:
    with _door.one_line_errors():
        arguments = sys.argv[1:]
        if not arguments or arguments[0] in ("-h", "--help"):
            print(HELP)
            return
        if arguments[0] not in COMMANDS:
            raise UserError(
                f"no command {arguments[0]!r}: {_door.nearest(arguments[0], COMMANDS)}have {', '.join(COMMANDS)}, and "
                f"settings after it; see --help"
            )
        _refuse_overridden(arguments[1:])
        with _door.leaving_at_once():
            from gan_kit._command_line import CommandLine
        if code := CommandLine().code:
            sys.exit(code)


def _refuse_overridden(arguments: list[str]) -> None:
    """A --config takes back what stands before it, without a word."""
    flags = [a.partition("=")[0] for a in arguments if a.startswith("-") and not a[1:2].isdigit()]
    files = [i for i, flag in enumerate(flags) if flag in ("--config", "-c")]
    before = [flag for flag in flags[: files[-1]] if flag not in ("--config", "-c")] if files else []
    if before:
        raise UserError(f"put --config before {before[0]}: a file read later takes back what was set")


if __name__ == "__main__":
    main()
