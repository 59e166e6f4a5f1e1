"""Make a data set of a folder: python -m gan_kit.prepare source=photos out=data/photos"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gan_kit import _door
from gan_kit.types import UserError

HELP = """\
Make a clean, split, packed data set of a messy folder of pictures or sounds, or of a .zip or .tar of them.

  python -m gan_kit.prepare source=DIR out=DIR [key=value ...]
  python -m gan_kit.prepare --verify OUT            compare every file of a data set with its checksum
  python -m gan_kit.prepare out=OUT webdataset=DIR  write a data set as tars of PNG or WAV files
  python -m gan_kit.train +experiment=image/folder data.root=OUT

  source=null          a folder, at any depth, or an archive
  out=null             the data set's folder; run the same command again after a stop, and it goes on
  domain=image         image|audio
  image_size=64        pictures become image_size x image_size; transform={transforms}
  domain.channels=3    3 colour, 1 grey
  labels=auto          auto: folders are classes if all files lie in folders; folders, none, or a .csv or .jsonl file
  duplicates=drop      near-duplicates: keep the best one of each cluster; keep keeps all, in one split
  drop=[]              leave out samples with these flags: drop=[blank,blurred]
  val_fraction=0.05    test_fraction=0.05   held out, by clusters of alike samples; seed=0 says which
  workers=null         processes; null: one a core
  overwrite=false      replace a data set that was made otherwise
  --dry-run            decode and decide, but write nothing

What was left out, and why, is in OUT/report.html; every file's way is in OUT/manifest.jsonl.
Other settings: domain.max_pixels=..., domain.min_size=..., timeout_seconds=60, max_bytes=1073741824, shard_bytes=...
"""
FLAGS = {"--dry-run": "dry_run=true"}


def main() -> None:
    with _door.one_line_errors():
        arguments = sys.argv[1:]
        if {"-h", "--help"} & set(arguments):
            print(HELP.format(transforms="|".join(_door.options("transform"))))
            return
        if arguments[:1] == ["--verify"]:
            if len(arguments) != 2:
                raise UserError("--verify takes one data set: python -m gan_kit.prepare --verify data/photos")
            arguments = [f"verify={arguments[1]}"]
        arguments = [FLAGS.get(a, a) for a in arguments]
        cfg = _door.composed("prepare", arguments)
        if cfg.verify is not None:
            verify(Path(str(cfg.verify)))
        elif cfg.webdataset is not None:
            export(cfg)
        else:
            prepare(cfg)


def verify(root: Path) -> None:
    from gan_kit.data.packed import verify

    if wrong := verify(root):
        raise UserError(f"{root}: {len(wrong)} files are damaged: {'; '.join(wrong[:5])}; prepare it anew")
    print(f"{root}: every file is as it was written")


def export(cfg: Any) -> None:
    from gan_kit.data.prepare import to_webdataset

    if cfg.out is None or cfg.source is not None:
        raise UserError(
            "webdataset= writes a prepared data set: python -m gan_kit.prepare out=data/photos webdataset=tars"
        )
    _door.Builder(cfg).whole("shard_bytes", 1)
    written = to_webdataset(str(cfg.out), str(cfg.webdataset), cfg.shard_bytes)
    print(f"{len(written)} tars in {cfg.webdataset}: {written[0].name} to {written[-1].name}")


def prepare(cfg: Any) -> None:
    """Prepare what `cfg` names and say what came of it."""
    from gan_kit.data.prepare import Limits, Settings, prepare
    from gan_kit.data.prepare.scan import shown

    build = _door.Builder(cfg)
    for key, least in (("seed", 0), ("max_bytes", 1), ("shard_bytes", 1), ("image_size", 1)):
        build.whole(key, least)
    build.whole("workers", 1, optional=True)
    for key in ("source", "out"):
        if cfg[key] is None:
            raise UserError(f"no {key} given: python -m gan_kit.prepare source=photos out=data/photos")
    for key in ("val_fraction", "test_fraction", "timeout_seconds"):
        if isinstance(cfg[key], bool) or not isinstance(cfg[key], int | float):
            raise UserError(f"{key}={cfg[key]} is not a number")
    if cfg.timeout_seconds <= 0:
        raise UserError(f"timeout_seconds={cfg.timeout_seconds} must be positive")
    domain = build("domain")
    drop = [cfg.drop] if isinstance(cfg.drop, str) else list(cfg.drop or [])
    settings = Settings(
        labels=str(cfg.labels),
        val_fraction=cfg.val_fraction,
        test_fraction=cfg.test_fraction,
        duplicates=str(cfg.duplicates),
        drop=tuple(map(str, drop)),
        seed=cfg.seed,
        shard_bytes=cfg.shard_bytes,
    )
    limits = Limits(float(cfg.timeout_seconds), cfg.max_bytes)
    dry = bool(cfg.dry_run)
    try:
        done = prepare(
            str(cfg.source), str(cfg.out), domain, settings, limits, workers=cfg.workers,
            overwrite=bool(cfg.overwrite), dry_run=dry,
        )  # fmt: skip
    except KeyboardInterrupt:
        print("interrupted: run the same command again, and it goes on where it stopped", file=sys.stderr)
        raise SystemExit(130) from None
    counts = ", ".join(f"{name} {count:,}" for name, count in done.counts.items())
    if done.already:
        print(f"{done.out} is this data set already: {counts}")
        return
    for name, reason in done.broken[:10]:
        print(f"  {shown(name)}: {reason}")
    if len(done.broken) > 10:
        print(f"  and {len(done.broken) - 10:,} more")
    for note in done.notes:
        print(f"  note: {note}")
    width = max(len(what) for what in done.outcomes)
    for what, count in done.outcomes.items():
        if count:
            print(f"{what:<{width}}  {count:,}")
    print(f"{'splits':<{width}}  {counts}")
    if dry:
        print(f"nothing was written; without --dry-run this goes to {done.out}")
        return
    for path in done.files:
        print(f"{path.suffix[1:]:<{width}}  {path}")
    if domain.name == "image":
        size = "" if cfg.image_size == 64 else f" image_size={cfg.image_size}"
        channels = "" if cfg.domain.channels == 3 else f" data.channels={cfg.domain.channels}"
        print(f"next   python -m gan_kit.train +experiment=image/folder data.root={done.out}{size}{channels}")


if __name__ == "__main__":
    main()
