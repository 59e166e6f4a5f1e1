"""Look into a trained generator's latent space: python -m gan_kit.explore run=runs/image/digits tool=interpolate"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gan_kit import _door
from gan_kit.types import UserError

HELP = """\
Look into the latent space of a trained generator: sheets, videos, a page with all of them.

  python -m gan_kit.explore [key=value ...]

  run=runs          a bundle, a run (runs/NAME/TIME), or a folder of runs: the newest is taken
  tool=interpolate  from sample to sample
       classes      from class to class, the rest unchanged: label=[3,8,1] says which
       truncate     the same samples at several psi
       mix          coarse, middle and fine styles of one sample in another (generators with w: StyleGAN2)
       directions   what the strongest directions do: method=sefa|pca|jacobian count=5 strength=3
       invert       the code of a picture or sound: picture=FILE or a folder; the generator's own samples without it
  n=null            samples, or rows; null: what suits the tool
  steps=8           columns from one sample to the next
  video=null        gif, webp, apng, or mp4 (pip install 'gan-kit[video]'); fps=24 seconds=2 tiles=4
  space=auto        z, w, and w+ for tool=invert; auto: w where the generator has one
  layers=null       of w: coarse, middle, fine, all, 3 or 2-5
  label=null        a class index or name, or a list; null draws all classes evenly
  psi=1.0           truncation; centre=mean or centroid (of each class, in w)
  iterations=300    lr=0.1   of tool=invert; perceptual=lite0, or a classifier's folder: compare what it sees, too
  seed=0            sample number i of a seed is what python -m gan_kit.sample draws
  batch_size=64     device=cpu
  out=null          where to: a folder (default: explored/ in the run's folder)
"""


def main() -> None:
    with _door.one_line_errors():
        arguments = sys.argv[1:]
        if {"-h", "--help"} & set(arguments):
            print(HELP)
            return
        explore(_door.composed("explore", arguments))


def explore(cfg: Any) -> Path:
    """Write a tool's files; -> their folder."""
    check(cfg)
    from omegaconf import OmegaConf

    from gan_kit._explore_tools import TOOLS, Session
    from gan_kit.bundle import load
    from gan_kit.runs import is_run, newest_run

    asked = SimpleNamespace(**OmegaConf.to_container(cfg))  # type: ignore[arg-type]
    where = Path(str(cfg.run))
    gan = load(where).to(_door.device(str(cfg.device)))
    if not hasattr(gan, "prior"):
        raise UserError(f"{where} holds a network that is shown what to make: it has no latent space to look into")
    if cfg.out:
        home = Path(str(cfg.out))
    else:
        home = (newest_run(where) if is_run(where) or not (where / "config.yaml").is_file() else where) / "explored"
    return TOOLS[cfg.tool](Session(gan, asked, home))


def check(cfg: Any) -> None:
    """Everything that can be said of the settings before torch is there. Raises UserError."""
    settings = _door.Builder(cfg)
    for key, least in (
        ("seed", 0), ("steps", 1), ("tiles", 1), ("count", 1), ("iterations", 1), ("batch_size", 1),
    ):  # fmt: skip
        settings.whole(key, least)
    settings.whole("n", 1, optional=True)
    settings.truncation("psi")
    for key in ("fps", "seconds", "strength", "lr"):
        value = cfg[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise UserError(f"{key}={value} is not a number above 0")
    cfg.space = cfg.space or "auto"
    choices = {
        "tool": ("interpolate", "classes", "truncate", "mix", "directions", "invert"),
        "space": ("auto", "z", "w", "w+") if cfg.tool == "invert" else ("auto", "z", "w"),
        "video": (None, "gif", "webp", "apng", "mp4"),
        "centre": ("mean", "centroid"),
        "method": ("auto", "sefa", "pca", "jacobian"),
    }
    for key, have in choices.items():
        if cfg[key] not in have:
            names = [str(name) for name in have if name]
            raise UserError(f"{key}={cfg[key]}: {_door.nearest(str(cfg[key]), names)}have {', '.join(names)}")


if __name__ == "__main__":
    main()
