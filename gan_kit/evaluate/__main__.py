"""Score a generator or a folder of pictures: python -m gan_kit.evaluate run=runs/image/digits"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_kit import _door
from gan_kit.types import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from gan_kit.evaluate.features import Extractor
    from gan_kit.evaluate.sets import FeatureSet
    from gan_kit.evaluate.suite import Evaluation

HELP = """\
Score generated samples: how near to real ones, how varied, how many are copies.

  python -m gan_kit.evaluate [run=RUN] [key=value ...]
  python -m gan_kit.evaluate real=DIR fake=DIR [key=value ...]     any tool's pictures; .npz files too
  python -m gan_kit.evaluate compare=[RUN,RUN]                     scores side by side, if their protocols agree
  python -m gan_kit.evaluate real=DIR statistics=FILE.npz          keep mean and covariance (mu, sigma) of its features,
                                                                   to be given as real=FILE.npz: the distance only

  run=runs           a run (runs/NAME/TIME), or a folder of runs: the newest is taken
  floor=null         more real pictures, scored beside fake= (a run takes those of its data)
  metrics=null       of {metrics}; null: all that apply
                     of a vocoder {of_vocoders}
  extractor=auto     {extractors}
  num_samples=10000  generated samples
  split=test         of the run's data (train, val, test), to score against
  seed=0  psi=1.0    as in gan_kit.sample
  image_size=null    resample folders of pictures to this size
  batch_size=128     device=cpu  threads=null  data.root=null
  out=null           where to: a folder (default: evaluation/... in the run's folder)

Each figure has its standard error, and beside it the same figure of real samples. Scores of different protocols
(extractor, data, counts, ...) don't compare: compare= tells what differs.
"""
METRICS = "fd,fd_inf,kid,kad,is,prdc,modes,accuracy,classes,vendi,memorisation"
OF_VOCODERS = "mel,stft,pesq,stoi,f0,si_sdr,rtf"
SHOWN = 10  # rows and columns of the sheets


def main() -> None:
    with _door.one_line_errors():
        arguments = sys.argv[1:]
        if {"-h", "--help"} & set(arguments):
            extractors = "|".join(_door.options("extractor"))
            print(HELP.format(metrics=METRICS, of_vocoders=OF_VOCODERS, extractors=extractors))
            return
        evaluate(_door.composed("evaluate", arguments))


def evaluate(cfg: Any) -> Path:
    """Score what `cfg` names, print the table; -> the folder of scores.json and the pictures."""
    import torch

    build = _door.Builder(cfg)
    for key, least in (("num_samples", 2), ("seed", 0), ("batch_size", 1)):
        build.whole(key, least)
    for key in ("image_size", "threads"):
        build.whole(key, 1, optional=True)
    build.truncation("psi")
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    if cfg.compare:
        return _compare(list(cfg.compare) if not isinstance(cfg.compare, str) else cfg.compare.split(","))
    metrics = _metrics(cfg.metrics, {*METRICS.split(","), *OF_VOCODERS.split(",")})
    if cfg.fake is not None and cfg.run is not None:
        raise UserError("give run= or fake=, not both: one of them is scored")
    if cfg.statistics is not None:
        if cfg.real is None or cfg.fake is not None or cfg.run is not None:
            raise UserError("statistics= keeps those of real=DIR, and goes with nothing else")
        return _keep_statistics(cfg, build)
    if cfg.fake is not None:
        if cfg.real is None:
            raise UserError("fake= needs real=: two folders of pictures, or .npz files, are scored against each other")
        return _score_folders(cfg, build, _metrics(metrics, set(METRICS.split(","))))
    return _score_run(cfg, build, metrics)


def _metrics(given: Any, known: set[str]) -> list[str] | None:
    if given is None:
        return None
    names = [given] if isinstance(given, str) else list(given)
    have = [m for m in f"{METRICS},{OF_VOCODERS}".split(",") if m in known]
    if unknown := [n for n in names if n not in have]:
        raise UserError(f"no metric {unknown[0]!r}: {_door.nearest(str(unknown[0]), have)}have {', '.join(have)}")
    return names


def _extractor(build: _door.Builder, data: Any, device: str) -> Extractor:
    found = build("extractor")
    if isinstance(found, functools.partial):  # one that has to know the data
        with build.errors("extractor"):
            found = found(data)
    return found.to(_door.device(device))


# ---- a run --------------------------------------------------------------------------------------------------------


def _score_run(cfg: Any, build: _door.Builder, metrics: list[str] | None) -> Path:
    import torch
    from omegaconf import OmegaConf

    from gan_kit.bundle import load
    from gan_kit.evaluate import suite
    from gan_kit.evaluate.features import as_stored
    from gan_kit.evaluate.sets import FeatureSet, extract_all, labels_like, split_features, vectors_like
    from gan_kit.runs import newest_run
    from gan_kit.trained import TrainedReconstruction

    where = Path(str(cfg.run or "runs"))
    run = newest_run(where)
    gan = load(run if (run / "bundle").is_dir() else where).to(_door.device(str(cfg.device)))
    config = OmegaConf.load(run / "config.yaml")
    if cfg.data.root is not None:
        config.data.root = cfg.data.root
    data = _door.Builder(config, foreign=True)("data")
    if tuple(data.spec.shape) != tuple(gan.spec.shape):
        raise UserError(f"{run}: its generator makes {gan.spec.shape}, its data are {data.spec.shape}")
    if gan.spec.audio is not None:
        gan.spec.audio.require(data.spec.audio, "the generator", "its data")
    print(f"run        {run}  ({gan.facts.get('samples_seen', 0):,} samples seen)")
    if isinstance(gan, TrainedReconstruction):
        from gan_kit.evaluate.vocoder_suite import score_run

        own = _metrics(metrics, set(OF_VOCODERS.split(",")))
        return score_run(gan, data, run, cfg.split, cfg.num_samples, own, Path(str(cfg.out)) if cfg.out else None)
    metrics = _metrics(metrics, set(METRICS.split(",")))
    extractor = _extractor(build, data, str(cfg.device))
    print(f"extractor  {_described(extractor)}", flush=True)

    n = cfg.num_samples
    real = split_features(extractor, data, cfg.split, progress=True)
    wants_train = metrics is None or "memorisation" in metrics
    other = "test" if cfg.split == "train" else "train"
    if wants_train and metrics is None and extractor.costly and len(data.arrays("train").x) > 20_000:
        wants_train = False
        print(f"memorisation is left out: {extractor.name} is slow on the whole train split; name it in metrics= ")
    train = split_features(extractor, data, "train", progress=True) if wants_train else None
    held = split_features(extractor, data, "test", progress=True) if wants_train else None
    floor = _floor(extractor, data, other, n, {"train": train, "test": held}.get(other))
    labels = labels_like(real.labels, n) if gan.num_classes and real.labels is not None else None
    vectors = data.arrays(cfg.split).vectors if gan.vector_dim else None
    condition = None if vectors is None else vectors_like(vectors, n)
    batches = gan.batches(n, labels, cfg.seed, cfg.psi, cfg.batch_size, condition=condition)
    found = extract_all(extractor, (as_stored(x) for x in batches), n, "samples", progress=True)
    y = torch.tensor(labels) if labels else None
    fake = FeatureSet(found.features, found.probabilities, y)
    knows = extractor.name == "classifier" and extractor.num_classes == data.spec.num_classes
    sets = suite.Sets(real, fake, train, held, extractor.name, data.spec.class_names, knows)
    protocol = {
        "extractor": extractor.protocol,
        "real": {"data": data.arrays(cfg.split).fingerprint(), "split": cfg.split},
        "labels": "in the reference's proportions" if labels else "none" if condition is None else "the reference's",
        "psi": cfg.psi,
        "rounding": {4: "uint8", 3: "int16"}.get(data.arrays("train").x.ndim, "none"),
    }
    subject = {"run": str(run), "seed": cfg.seed, **gan.facts}
    result = suite.evaluate(sets, metrics, floor, protocol, subject)
    out = Path(str(cfg.out)) if cfg.out else run / "evaluation" / f"{extractor.name}_{cfg.split}_n={n}"
    result.save(out / "scores.json")
    pictures = _draw(gan, data, sets, labels, condition, cfg, out) if data.arrays("train").x.ndim > 2 else []
    _print(result, out, pictures + _drawn_scores(result, out))
    return out


def _floor(extractor: Extractor, data: Any, split: str, n: int, known: FeatureSet | None) -> FeatureSet:
    """Features of at most n real samples that are not in the reference."""
    import numpy as np

    from gan_kit.evaluate.sets import array_batches, data_features

    if known is not None:
        return known.some(n)
    arrays = data.arrays(split)
    rows = np.sort(np.random.default_rng(0).permutation(len(arrays.x))[:n])
    y = None if arrays.labels is None else arrays.labels[rows]
    fingerprint = f"{arrays.fingerprint()} rows {len(rows)} of seed 0"
    found = arrays.x if len(rows) == len(arrays.x) else arrays.x[rows]
    return data_features(extractor, fingerprint, len(rows), lambda: array_batches(found), y, f"{split} split", True)


def _draw(
    gan: Any, data: Any, sets: Any, labels: list[int] | None, condition: Tensor | None, cfg: Any, out: Path
) -> list[Path]:
    """nearest.png, classes.png, history.png: those that can be had."""
    import torch

    from gan_kit.evaluate import sheets
    from gan_kit.evaluate.neighbours import nearest

    def samples(rows: list[int]) -> torch.Tensor:
        def one(i: int) -> torch.Tensor:
            y = None if labels is None else [labels[i]]
            return gan.sample(1, y, cfg.seed, cfg.psi, start=i, condition=None if condition is None else condition[i])

        return torch.cat([one(i) for i in rows])

    drawn = []
    if sets.train is not None:
        distances, indices = nearest(sets.fake.features, sets.train.features, k=5)
        rows = distances[:, 0].argsort()[:SHOWN].tolist()
        train = data.arrays("train").x
        sheets.nearest_sheet(samples(rows), train, indices[rows], out / "nearest.png", data.spec.audio)
        drawn.append(out / "nearest.png")
    if labels:
        by_class = []
        for k in sorted(set(labels))[:20]:
            rows = [i for i, label in enumerate(labels) if label == k][:SHOWN]
            if len(rows) == SHOWN:
                by_class.append(samples(rows))
        if by_class:
            sheets.rows_sheet(by_class, out / "classes.png", data.spec.audio)
            drawn.append(out / "classes.png")
    history = out.parent / "history.jsonl"
    if sheets.draw_history(history, out.parent / "history.png"):
        drawn.append(out.parent / "history.png")
    return drawn


def _drawn_scores(result: Evaluation, out: Path) -> list[Path]:
    from gan_kit.evaluate.sheets import draw_precision_recall

    path = out / "precision_recall.png"
    return [path] if draw_precision_recall(result.scores, path) else []


# ---- folders ------------------------------------------------------------------------------------------------------


def _score_folders(cfg: Any, build: _door.Builder, metrics: list[str] | None) -> Path:
    import gan_kit.evaluate.moments as moments
    from gan_kit.data import load_samples
    from gan_kit.evaluate import suite
    from gan_kit.files import sha256_of

    real_path, home = Path(str(cfg.real)), Path(str(cfg.fake))
    known = moments.load_moments(real_path) if moments.holds_moments(real_path) else None
    if known and metrics not in (None, ["fd"]):
        raise UserError(f"{real_path} holds mean and covariance only: of metrics= that gives fd")
    fake = load_samples(home, cfg.image_size, cfg.channels)
    real = None if known else load_samples(real_path, cfg.image_size, cfg.channels)
    if real is not None and real.shape != fake.shape:
        cure = "channels=3 (or 1)" if real.shape[1:] == fake.shape[1:] else f"image_size={min(real.shape[1:])}"
        raise UserError(
            f"{real_path} holds pictures of shape {real.shape}, {home} of {fake.shape}; their scores would measure "
            f"the difference: give {cure} to make them alike"
        )
    extractor = _extractor(build, None, str(cfg.device))
    what = f"{len(real):,} pictures of {real.shape}" if real is not None else "mean and covariance of features"
    print(f"real       {real_path}  ({what})")
    _announce("fake", home, fake, extractor)
    of_fake = _features(extractor, fake, cfg.batch_size, "fake", keep=False)
    protocol = {
        "extractor": extractor.protocol,
        "real": {"data": real.fingerprint} if real is not None else {"statistics": sha256_of(real_path)},
        "image_size": cfg.image_size,
        "shape": list(fake.shape),
        "rounding": "uint8",
    }
    subject = {"fake": str(home), "data": fake.fingerprint}
    if real is None:
        assert known is not None
        score = moments.score(known, of_fake, extractor.name)
        result = suite.Evaluation([score], protocol | {"n_fake": len(fake), "n_real": None}, subject)
    else:
        again = None
        if cfg.floor is not None:
            more = load_samples(str(cfg.floor), cfg.image_size, cfg.channels)
            if more.fingerprint == real.fingerprint:
                raise UserError(f"floor={cfg.floor} is the reference itself: give real pictures that are not in it")
            again = _features(extractor, more, cfg.batch_size, "floor", keep=True).some(len(fake))
        sets = suite.Sets(_features(extractor, real, cfg.batch_size, "real", keep=True), of_fake, name=extractor.name)
        result = suite.evaluate(sets, metrics, again, protocol, subject)
    out = Path(str(cfg.out)) if cfg.out else home.with_name(f"{home.stem}_evaluation") / extractor.name
    result.save(out / "scores.json")
    _print(result, out, _drawn_scores(result, out))
    return out


def _keep_statistics(cfg: Any, build: _door.Builder) -> Path:
    from gan_kit.data import load_samples
    from gan_kit.evaluate.moments import save_moments

    path = Path(str(cfg.statistics)).with_suffix(".npz")
    real = load_samples(str(cfg.real), cfg.image_size, cfg.channels)
    extractor = _extractor(build, None, str(cfg.device))
    _announce("real", Path(str(cfg.real)), real, extractor)
    found = _features(extractor, real, cfg.batch_size, "real", keep=True)
    if len(found) < 2:
        raise UserError(f"{cfg.real} holds {len(found)} picture: no covariance can be had of fewer than 2")
    save_moments(path, found.features)
    print(f"statistics {path}  ({found.features.shape[1]} features of {len(found):,} pictures)")
    return path


def _announce(side: str, path: Path, samples: Any, extractor: Extractor) -> None:
    print(f"{side:<10} {path}  ({len(samples):,} pictures of {samples.shape})")
    print(f"extractor  {_described(extractor)}", flush=True)


def _features(extractor: Extractor, samples: Any, batch_size: int, label: str, keep: bool) -> FeatureSet:
    from gan_kit.evaluate.sets import data_features

    def batches() -> Any:
        import torch

        return (torch.from_numpy(x.copy()) for x in samples.batches(batch_size))

    return data_features(extractor, samples.fingerprint, len(samples), batches, None, label, True, keep)


# ---- side by side -------------------------------------------------------------------------------------------------


def _compare(names: list[str]) -> Path:
    from gan_kit.evaluate import tables
    from gan_kit.evaluate.suite import Evaluation

    if len(names) < 2:
        raise UserError("compare= takes at least two: compare=[runs/a,runs/b]")
    paths = [_scores_file(Path(str(name))) for name in names]
    found = [Evaluation.load(path) for path in paths]
    for path, other in zip(paths[1:], found[1:], strict=True):
        if why := tables.differences(found[0].protocol, other.protocol):
            raise UserError(f"{paths[0]} and {path} can't be compared: {'; '.join(why)}")
    for i, name in enumerate(names):
        print(f"{chr(ord('a') + i)}  {name}")
    print(tables.side_by_side(found))
    return paths[0].parent


def _scores_file(path: Path) -> Path:
    if path.is_file():
        return path
    names = ("scores.json", "vocoder.json")
    found = [f for name in names for f in path.rglob(name)] if path.is_dir() else []
    if not found:
        raise UserError(f"no scores.json below {path}; evaluate it first: python -m gan_kit.evaluate run={path}")
    return max(found, key=lambda p: p.stat().st_mtime_ns)


def _described(extractor: Any) -> str:
    facts = getattr(extractor, "facts", {})
    right = f", {facts['test_accuracy']:.1%} right on the test split" if "test_accuracy" in facts else ""
    return f"{extractor.name} ({extractor.dims} features{right})"


def _print(result: Evaluation, out: Path, pictures: list[Path]) -> None:
    from gan_kit.evaluate import tables

    p = result.protocol
    against = f"{p['n_real']:,} real ones" if p["n_real"] else "the statistics of real ones"
    print(f"\n{p['n_fake']:,} generated samples against {against}\n")
    print(tables.table(result))
    for name, why in result.skipped.items():
        print(f"not scored: {name} ({why})")
    print(f"\n  scores    {out / 'scores.json'}  (protocol {result.protocol_sha256[:8]})")
    for picture in pictures:
        print(f"  picture   {picture}")


if __name__ == "__main__":
    main()
