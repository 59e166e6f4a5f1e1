"""Reading and preparing pictures beside torchvision's ImageFolder and a bare Pillow loop, on the same files.

    python benchmarks/data.py [--only read|step|prepare|memory] [--rounds 5] [--workers 2]

read     one core: batches of packed pictures beside ImageFolder + transforms + DataLoader, pictures a second
step     how long a training step of a DCGAN-32 waits for its batch
decode   the part of a worker alone, beside decoding and resizing alone, in CPU time [--widths 128 512 2048 4032]
prepare  the whole of it (scan, decode, fingerprints, duplicates, splits, shards, report) beside processes that only
         decode, resize and keep the pixels; [--widths 128 512 2048 4032]
memory   peak resident memory of all processes, preparing 1,000 to 100,000 pictures

Pictures are made here: smooth textures with grain, JPEG quality 90. Rounds take turns; the medians' ratio counts.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timing import interleaved


def picture(seed: int, width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = rng.normal(0, 6, (height, width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))


def _save(i: int, folder: Path, size: tuple[int, int]) -> None:
    picture(i, *size).save(folder / str(i % 10) / f"{i:06d}.jpg", quality=90)


def pictures(folder: Path, count: int, size: tuple[int, int], workers: int) -> Path:
    for k in range(10):
        (folder / str(k)).mkdir(parents=True)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver")) as pool:
        list(pool.map(partial(_save, folder=folder, size=size), range(count), chunksize=max(1, min(64, count // 32))))
    return folder


def read(home: Path, rounds: int, workers: int) -> None:
    import torch
    from torch.utils.data import DataLoader
    from torchvision import transforms as T
    from torchvision.datasets import ImageFolder

    from gan_kit.data import BatchLoader, Packed, Resize
    from gan_kit.data.datamodule import scaled
    from gan_kit.data.prepare import Images, Settings, prepare

    torch.set_num_threads(1)
    count = 2000
    source = pictures(home / "read", count, (128, 128), workers)
    for side in (32, 64):
        out = home / f"packed{side}"
        prepare(source, out, Images(Resize(side)), Settings(duplicates="keep"), report=False, progress=False)
        chain = T.Compose([T.Resize(side), T.CenterCrop(side), T.ToTensor(), T.Normalize(0.5, 0.5)])
        theirs = DataLoader(ImageFolder(str(source), chain), batch_size=64, shuffle=True)
        arrays = Packed(out).load("train")
        ours = BatchLoader(arrays.x, arrays.y, batch_size=64)

        def packed(ours: Any = ours) -> None:
            for batch in ours:
                scaled(batch.x)

        def folder(theirs: Any = theirs) -> None:
            for _ in theirs:
                pass

        t = interleaved(rounds, {"packed": packed, "ImageFolder": folder})
        a, b = len(ours) * 64 / t["packed"], count / t["ImageFolder"]
        print(
            f"read {side}x{side}, batches of 64, one core: packed {a:,.0f}/s, ImageFolder {b:,.0f}/s = {a / b:.0f}x",
            flush=True,
        )


def step(home: Path, rounds: int, workers: int) -> None:
    import torch

    from gan_kit.data import FolderData, Resize
    from gan_kit.data.prepare import Images, Settings, prepare
    from gan_kit.image import DCGANDiscriminator, DCGANGenerator

    torch.set_num_threads(1)
    source = pictures(home / "step", 2000, (64, 64), workers)
    prepare(source, home / "step32", Images(Resize(32)), Settings(duplicates="keep"), report=False, progress=False)
    loader = FolderData(home / "step32", Resize(32), batch_size=64).train_dataloader()
    G, D = DCGANGenerator(32, 3, width=32), DCGANDiscriminator(32, 3, width=32, norm="none")
    waits, steps = [], []
    for _ in range(max(1, rounds // 2)):
        batches = iter(loader)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            got = time.perf_counter()
            fake = G(torch.randn(64, G.z_dim))
            (D(fake).logits[0].mean() - D(batch.x.float()).logits[0].mean()).backward()
            waits.append(got - start)
            steps.append(time.perf_counter() - start)
    share = sum(waits) / sum(steps)
    print(
        f"step, DCGAN-32, width 32, batch 64: {1e3 * statistics.median(steps):.1f} ms, {share:.2%} of it waits for data"
    )


def _bare(path: Path, side: int) -> bytes:
    with Image.open(path) as image:
        rgb = image.convert("RGB")
        w, h = rgb.size
        s = min(w, h)
        box = ((w - s) / 2, (h - s) / 2, (w + s) / 2, (h + s) / 2)
        return rgb.resize((side, side), Image.Resampling.LANCZOS, box=box).tobytes()


# The last one is a telephone's 12 megapixels
PHOTOGRAPHS = (((128, 128), 4000), ((512, 512), 1000), ((2048, 2048), 200), ((4032, 3024), 60))


def preparing(home: Path, rounds: int, workers: int, widths: list[int] | None = None) -> None:
    from gan_kit.data import Resize
    from gan_kit.data.prepare import Images, prepare

    for size, count in PHOTOGRAPHS:
        if widths and size[0] not in widths:
            continue
        source = pictures(home / f"source{size[0]}", count, size, workers)
        paths = sorted(source.rglob("*.jpg"))
        at_once = max(1, min(64, count // (16 * workers)))

        def bare(paths: list[Path] = paths, at_once: int = at_once) -> None:
            with ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver")) as pool:
                with (home / "bare.bin").open("wb") as file:
                    for pixels in pool.map(partial(_bare, side=64), paths, chunksize=at_once):
                        file.write(pixels)

        def ours(source: Path = source) -> None:
            shutil.rmtree(home / "prepared", ignore_errors=True)
            prepare(source, home / "prepared", Images(Resize(64)), workers=workers, progress=False)

        cpu: dict[str, list[float]] = {"ours": [], "bare": []}

        def counted(name: str, run: Callable[[], None], cpu: dict[str, list[float]] = cpu) -> Callable[[], None]:
            def counting() -> None:
                before = _cpu_seconds()
                run()
                cpu[name].append(_cpu_seconds() - before)

            return counting

        t = interleaved(rounds, {"ours": counted("ours", ours), "bare": counted("bare", bare)})
        a, b = count / t["ours"], count / t["bare"]
        work = statistics.median(b / a for a, b in zip(cpu["ours"], cpu["bare"], strict=True))
        print(
            f"prepare {count:,} of {size[0]}x{size[1]} to 64, {workers} processes: {a:,.1f}/s, bare loop {b:,.1f}/s = "
            f"{a / b:.2f} of it; by CPU time {work:.2f}",
            flush=True,
        )
        shutil.rmtree(source)


def decoding(home: Path, rounds: int, workers: int, widths: list[int] | None = None) -> None:
    """A worker's part alone, in this process, by CPU time."""
    from gan_kit.data import Resize
    from gan_kit.data.prepare import Images, Limits, segments
    from gan_kit.data.prepare.decoding import keep_memory
    from gan_kit.data.prepare.scan import scan

    keep_memory()
    domain = Images(Resize(64))
    for size, count in PHOTOGRAPHS:
        if widths and size[0] not in widths:
            continue
        count, at_once = max(12, count // 8), 64 if size[0] <= 512 else 12
        files = scan(pictures(home / f"few{size[0]}", count, size, workers), domain.kinds).files
        ratios = []
        for _ in range(rounds):
            seconds = {"ours": 0.0, "bare": 0.0}
            for at in range(0, count, at_once):
                some, start = files[at : at + at_once], time.process_time()
                for found in some:
                    _bare(found.path, 64)
                middle = time.process_time()
                segments.save(segments.decode(some, domain, Limits()), home / "segment.npz")
                seconds["bare"] += middle - start
                seconds["ours"] += time.process_time() - middle
            ratios.append(seconds["bare"] / seconds["ours"])
        print(
            f"decode {count} of {size[0]}x{size[1]} to 64, one process, {at_once} at once: "
            f"{1e3 * seconds['ours'] / count:.2f} ms of CPU each, bare loop {1e3 * seconds['bare'] / count:.2f} ms = "
            f"{statistics.median(ratios):.3f} of its speed",
            flush=True,
        )


def _cpu_seconds() -> float:
    """Of this process and all below it, those too that have ended; in ticks of a 100th of a second."""
    total = time.process_time()
    for pid in _below(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


def memory(home: Path, rounds: int, workers: int) -> None:
    """In a process of its own for each size; a thread adds up the resident memory of it and its children."""
    for count in (1_000, 10_000, 100_000):
        source = pictures(home / f"many{count}", count, (32, 32), workers)
        context = multiprocessing.get_context("spawn")
        answer = context.Queue()
        process = context.Process(target=_prepare_watched, args=(source, home / f"out{count}", workers, answer))
        process.start()
        own, together, seconds = answer.get()
        process.join()
        print(
            f"memory, {count:,} pictures: {own / 2**20:.0f} MiB the main process, {together / 2**20:.0f} MiB with its "
            f"{workers} workers, {seconds:.0f} s",
            flush=True,
        )
        shutil.rmtree(source)


def _prepare_watched(source: Path, out: Path, workers: int, answer: Any) -> None:
    from gan_kit.data import Resize
    from gan_kit.data.prepare import Images, prepare

    peak = {"own": 0, "together": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            pids = [os.getpid(), *_below(os.getpid())]
            sizes = [_resident(pid) for pid in pids]
            peak["own"], peak["together"] = max(peak["own"], sizes[0]), max(peak["together"], sum(sizes))

    thread = threading.Thread(target=watch)
    thread.start()
    start = time.perf_counter()
    prepare(source, out, Images(Resize(32)), workers=workers, progress=False)
    seconds = time.perf_counter() - start
    done.set()
    thread.join()
    answer.put((peak["own"], peak["together"], seconds))


def _below(pid: int) -> list[int]:
    try:
        children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(g for c in children for g in _below(c))]


def _resident(pid: int) -> int:
    """Unshared pages: what a fork shares with its parent counts once."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def main() -> None:
    parts: dict[str, Callable[..., None]] = {
        "read": read,
        "step": step,
        "decode": decoding,
        "prepare": preparing,
        "memory": memory,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=parts)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--widths", type=int, nargs="+", help="of the pictures that are prepared; all without")
    args = parser.parse_args()
    print(f"{sys.platform}, {os.cpu_count()} cores")
    for name, part in parts.items():
        if args.only in (None, name):
            with tempfile.TemporaryDirectory() as home:
                part(
                    Path(home),
                    args.rounds,
                    args.workers,
                    **({"widths": args.widths} if name in ("decode", "prepare") else {}),
                )


if __name__ == "__main__":
    main()
