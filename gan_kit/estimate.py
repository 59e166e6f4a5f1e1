"""What a training will cost before it is begun: python -m gan_kit.estimate +experiment=image/fashion_mnist_r3gan"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gan_kit import _door
from gan_kit.types import UserError

HELP = """\
Estimate what a training costs: parameters, operations, memory, hours and energy, from its config and a short probe.

  python -m gan_kit.estimate +experiment=image/fashion_mnist_r3gan [key=value ...]     as given to gan_kit.train
  python -m gan_kit.estimate +experiment=... trainer.devices=8                         hours as if these were there

  steps=50           of the probe; its first third warms up and is not counted
  watts=null         of one device under load; null: {cpu} for a CPU, {gpu} for a GPU, which are guesses
  out=null           a .json to keep the figures in

Operations are of matrix products and convolutions, forward and backward, two for a multiplication and an addition.
Several devices are taken to lose nothing to each other: a bound, which docs/cluster.md puts into proportion.
"""
WATTS = {"cpu": 65, "cuda": 400}
OWN: dict[str, Any] = {"steps": 50, "watts": None, "out": None}


def main() -> None:
    with _door.one_line_errors():
        arguments = sys.argv[1:]
        if {"-h", "--help"} & set(arguments):
            print(HELP.format(cpu=WATTS["cpu"], gpu=WATTS["cuda"]))
            return
        own = dict(OWN)
        for argument in list(arguments):
            key, _, value = argument.partition("=")
            if key in own:
                arguments.remove(argument)
                own[key] = _number(key, value) if key != "out" else value
        from gan_kit._arguments import normalised

        with _door.one_line_errors(composing=True):
            cfg = _door.compose("train", normalised(arguments))
        estimate(cfg, int(own["steps"]), own["watts"], own["out"])


def _number(key: str, value: str) -> float | None:
    if value == "null":
        return OWN[key]
    try:
        number = float(value)
    except ValueError:
        number = -1
    if number <= 0 or (key == "steps" and (number != int(number) or number < 3)):
        raise UserError(f"{key}={value}; give a {'whole number from 3 on' if key == 'steps' else 'positive number'}")
    return number


def estimate(cfg: Any, steps: int, watts: float | None, out: str | None) -> dict[str, Any]:
    """Print the figures; -> them."""
    import torch

    from gan_kit._auto import settle
    from gan_kit.adversarial import GAN
    from gan_kit.cost import step_cost

    build = _door.Builder(cfg)
    for key in (
        "image_size",
        "budget_samples",
        "schedule_samples",
        "log_every_steps",
        "sample_every",
        "evaluate_every",
    ):
        build.whole(key, 1)
    devices = cfg.trainer.get("devices", 1)
    nodes = cfg.trainer.get("num_nodes", 1)
    if not all(isinstance(n, int) and n > 0 for n in (devices, nodes)):
        raise UserError(f"trainer.devices={devices}, trainer.num_nodes={nodes}: give whole numbers to estimate for")
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    data = build("data")
    with tempfile.TemporaryDirectory() as folder:
        cfg.paths.output_dir = folder
        cfg.spec = data.spec.settings()
        settle(cfg, data.spec)
        build.resolve()
        gan = build("model")
        known = type(gan) is GAN  # whose step falls into parts that can be counted by themselves
        probe, counted = _probe(build, gan, data, steps, count=not known)
        if known:
            batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
            small = type(batch)(batch.x[:8].to(gan.device), None if batch.y is None else batch.y[:8].to(gan.device))
            cost = step_cost(gan, small)
            flops = {
                "flops_per_generated_sample": cost.generator,
                "flops_per_training_sample": cost.total,
                "flops_d_step": cost.d_step,
                "flops_g_step": cost.g_step,
                **{f"flops_{name}": value for name, value in cost.penalties.items()},
            }
        else:
            flops = {"flops_per_training_sample": counted}
    world = devices * nodes
    rate = probe["samples_per_second"] * world
    hours = cfg.budget_samples / rate / 3600
    power = watts or WATTS.get(gan.device.type, WATTS["cuda"])
    figures = {
        **{f"{name}_parameters": count for name, net in gan.named_children() if (count := _trained(net))},
        **flops,
        **probe,
        "devices": world,
        "budget_samples": cfg.budget_samples,
        "hours": hours,
        "watts_per_device": power,
        "kwh": hours * world * power / 1000,
    }
    _print(figures, gan.device.type, watts is None)
    if known and len(data.spec.shape) == 3:
        _suggest(cfg, data, gan)
    if out:
        from gan_kit.files import write_whole

        write_whole(Path(out).with_suffix(".json"), json.dumps(figures, indent=1) + "\n")
    return figures


def _probe(build: _door.Builder, gan: Any, data: Any, steps: int, count: bool) -> tuple[dict[str, float], float]:
    """Train some steps as the run would, without its files; -> speed and memory, and with `count` the operations a
    sample of those that warm up: exact where lazy penalties come around a whole number of times in them, else 0."""
    import logging
    import warnings

    import torch
    from lightning.pytorch import Callback
    from lightning.pytorch.utilities.warnings import PossibleUserWarning

    from gan_kit.cost import FlopCounter

    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message=".*in eval mode at the start")

    class Clock(Callback):
        times: list[tuple[float, int, float]]  # seconds, samples, CPU-seconds of this process

        def on_train_start(self, *_: Any) -> None:
            self.times = [(time.perf_counter(), 0, time.process_time())]

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize()
            self.times.append((time.perf_counter(), pl_module.samples_seen, time.process_time()))

    warm_up = max(1, steps // 3)

    class Count(Callback):
        operations = samples = steps = 0

        def on_train_batch_start(self, *_: Any) -> None:
            self.steps += 1
            self.counter = FlopCounter()
            if self.steps <= warm_up:
                self.counter.__enter__()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if self.steps <= warm_up:
                self.counter.__exit__(None, None, None)
                self.operations, self.samples = self.operations + self.counter.total, pl_module.samples_seen

    clock, counted = Clock(), Count()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for key in {"devices", "num_nodes"} & build.cfg.trainer.keys():
        build.cfg.trainer[key] = 1
    if "strategy" in build.cfg.trainer:
        build.cfg.trainer.strategy = "auto"
    compiling = [build("callbacks.compile")] if build.cfg.callbacks.get("compile") else []
    trainer = build(
        "trainer",
        callbacks=[*compiling, clock, *([counted] if count else [])],
        logger=False,
        max_steps=steps,
        enable_checkpointing=False,
    )
    before = _resident_bytes("VmRSS") if gan.device.type == "cpu" else 0
    trainer.fit(gan, datamodule=data)
    times = clock.times[warm_up:]
    if len(times) < 2:
        raise UserError(f"the probe ended after {len(clock.times) - 1} steps; give more with steps=")
    seconds, samples = times[-1][0] - times[0][0], times[-1][1] - times[0][1]
    found = {
        "steps": len(times) - 1,
        "samples_per_second": samples / seconds,
        "samples_per_cpu_second": samples / max(times[-1][2] - times[0][2], 1e-9),
        "peak_memory_bytes": _peak_bytes(gan) - before,
    }
    return found, counted.operations / max(counted.samples, 1)


def _peak_bytes(gan: Any) -> int:
    import torch

    if gan.device.type == "cuda":
        return torch.cuda.max_memory_allocated(gan.device)
    return _resident_bytes("VmHWM")


def _resident_bytes(what: str) -> int:
    """VmRSS, what this process holds, or VmHWM, the most that it ever held, as Linux tells them; elsewhere the latter.

    Of this program alone: on Linux getrusage's peak begins with what the process had that started it, a notebook's say.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _trained(net: Any) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def _print(f: dict[str, Any], kind: str, guessed: bool) -> None:
    nets = [f"{k.removesuffix('_parameters')} {n / 1e6:.2f}M" for k, n in f.items() if k.endswith("_parameters")]
    whole = f["flops_per_training_sample"]
    achieved = whole * f["samples_per_second"]
    print(f"parameters  {', '.join(nets)}")
    if "flops_d_step" in f:
        parts = {"D": f["flops_d_step"], "G": f["flops_g_step"]}
        known = {"flops_per_generated_sample", "flops_per_training_sample", "flops_d_step", "flops_g_step"}
        parts |= {k.removeprefix("flops_"): v for k, v in f.items() if k.startswith("flops_") and k not in known}
        print(
            f"operations  {_flops(f['flops_per_generated_sample'])} to draw a sample; {_flops(whole)} to train on one,"
        )
        print(f"            of which {', '.join(f'{name} {_flops(value)}' for name, value in parts.items())}")
    else:
        print(f"operations  {_flops(whole)} to train on a sample")
    print(
        f"probe       {f['samples_per_second']:,.0f} samples/s on one {kind} ({_flops(achieved)}/s), {f['steps']} steps"
    )
    print(f"memory      {f['peak_memory_bytes'] / 2**20:,.0f} MiB {'more than before' if kind == 'cpu' else 'at most'}")
    print(f"budget      {f['budget_samples']:,} samples on {f['devices']} devices: {_duration(f['hours'])}")
    guess = " (a guess; give watts=)" if guessed else ""
    print(f"energy      {f['kwh']:.3g} kWh at {f['watts_per_device']:g} W a device{guess}")


def _suggest(cfg: Any, data: Any, gan: Any) -> None:
    """Where a search may begin, for pictures."""
    from gan_kit.adversarial.heuristics import suggestions

    widest = max((p.shape[0] for p in gan.generator.parameters() if p.dim() == 4), default=None)
    train, size = len(data.arrays("train").x), data.spec.shape[-1]
    found = suggestions(size, cfg.data.batch_size, train, widest, relativistic=gan.loss.g_sees_real)
    keys = {"gamma": "γ", "lr": "lr", "ema": "EMA half-life", "p": "augment.p"}
    print("\nto begin with, for these data and this batch (docs/sweep.md; a sweep finds better):")
    for name, s in found.items():
        print(f"  {keys[name]:13} {s.value:<8.3g} {s.low:.3g} to {s.high:.3g}; {s.why}")


def _flops(count: float) -> str:
    for unit, size in (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g} FLOP"


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 2 else f"{60 * hours:.1f} minutes"


if __name__ == "__main__":
    main()
