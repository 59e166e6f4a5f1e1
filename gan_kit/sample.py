"""Sample a trained generator: python -m gan_kit.sample run=runs/image/digits n=64 label=3"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gan_kit import _door
from gan_kit._samples import folder_name, read_condition, write_restored, write_samples
from gan_kit.types import UserError

HELP = """\
Draw samples from a trained generator: PNG files and a grid; of sounds WAV files, and a page that plays them.

  python -m gan_kit.sample [key=value ...]

  run=runs        a bundle, a run (runs/NAME/TIME), or a folder of runs: the newest is taken
  n=64            how many
  label=null      a class index or name; null draws all classes evenly
  condition=null  of a generator conditioned on vectors: an .npy file of one (E,), or of n of them (n, E)
  seed=0          sample number i of a seed is always the same, whatever n and batch_size
  psi=1.0         truncation: below 1 less varied, more typical
  batch_size=64   device=cpu
  out=null        where to: a folder (default: generated/... in the run's folder)
  vocoder=null    of sounds: a vocoder of the same rate that makes their waves anew, by way of its mel spectrograms

A vocoder restores sounds instead:

  source=null     a sound file, or a folder of them, to take to mel spectrograms and back
"""


def main() -> None:
    with _door.one_line_errors():
        arguments = sys.argv[1:]
        if {"-h", "--help"} & set(arguments):
            print(HELP)
            return
        sample(_door.composed("sample", arguments))


def sample(cfg: Any) -> Path:
    """Write n PNG or WAV files and grid.png; -> their folder."""
    from gan_kit.bundle import TrainedReconstruction, load
    from gan_kit.runs import is_run, newest_run

    settings = _door.Builder(cfg)
    for key, least in (("n", 1), ("seed", 0), ("batch_size", 1)):
        settings.whole(key, least)
    settings.truncation("psi")
    if cfg.source is not None and cfg.vocoder is not None:
        raise UserError("give source= to restore sounds by run=, or vocoder= to make waves of what it draws, not both")
    if cfg.label is not None and (not isinstance(cfg.label, int | str) or isinstance(cfg.label, bool)):
        raise UserError(f"label={cfg.label} is neither a class index nor a name; leave it out for all classes")
    where = Path(str(cfg.run))
    gan = load(where).to(_door.device(str(cfg.device)))
    restores = isinstance(gan, TrainedReconstruction)
    if restores != (cfg.source is not None):
        raise UserError(
            f"{where} restores what it is shown: give source= a sound file, or a folder of them"
            if restores
            else f"source={cfg.source}: {where} draws samples, it does not restore any; leave source out"
        )
    home = newest_run(where) if is_run(where) or not (where / "config.yaml").is_file() else where
    if restores:
        source = Path(str(cfg.source))
        out = Path(str(cfg.out)) if cfg.out else home / "restored" / source.stem
        write_restored(gan, source, out)
        return out
    vocoder = None if cfg.vocoder is None else _vocoder(cfg, gan)
    condition = None if cfg.condition is None else read_condition(Path(str(cfg.condition)), cfg.n)
    gan.labels(cfg.n, cfg.label, cfg.seed, 0, condition)  # its mistakes, before anything is removed
    if cfg.out:
        out = Path(str(cfg.out))
    else:
        named = Path(str(cfg.condition)).stem if cfg.condition is not None else None
        folder = folder_name(cfg.label, cfg.seed, cfg.psi, named) + ("_vocoder" if vocoder else "")
        out = home / "generated" / folder
        for old in (*out.glob("[0-9]*.png"), *out.glob("[0-9]*.wav")):  # of an earlier call, perhaps of a generator
            old.unlink()  # that has trained on since
    write_samples(gan, out, cfg.n, cfg.label, cfg.seed, cfg.psi, cfg.batch_size, vocoder, condition)
    return out


def _vocoder(cfg: Any, gan: Any) -> Any:
    """What `vocoder=` names. Raises UserError where it restores no sounds, or sounds of another rate."""
    from gan_kit.bundle import TrainedReconstruction, load

    vocoder = load(Path(str(cfg.vocoder))).to(gan.device)
    if not isinstance(vocoder, TrainedReconstruction) or vocoder.sample_rate is None:
        raise UserError(f"vocoder={cfg.vocoder} restores no sounds; name a run of a vocoder")
    if gan.sample_rate != vocoder.sample_rate:
        made = f"sounds at {gan.sample_rate} Hz" if gan.sample_rate else "no sounds"
        raise UserError(
            f"{cfg.run} makes {made}, vocoder={cfg.vocoder} is of {vocoder.sample_rate} Hz; they must agree"
        )
    return vocoder


if __name__ == "__main__":
    main()
