"""What a step costs: floating-point operations counted where torch carries them out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gan_kit.adversarial import GAN
from gan_kit.adversarial.players import frozen
from gan_kit.files import write_whole
from gan_kit.types import Batch

__all__ = ["FlopCounter", "StepCost", "flops_of", "keep_cost", "peak_flops", "step_cost", "training_cost"]


class FlopCounter(TorchDispatchMode):
    """Adds up matrix products and convolutions, backward ones too, a multiplication and an addition being two.

    torch's own FlopCounterMode stumbles over gradients with respect to a leaf (pytorch #131753), which penalties take.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket is torch.ops.aten.convolution_backward:
            self.total += _conv_backward(*args)
        elif count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def _conv_backward(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    """The gradients of x and of the weight cost what the convolution cost, each: its kernel at each position.

    torch's own count takes the weight's for one of a dense convolution, whatever the groups.
    """
    _bias, _stride, _padding, _dilation, transposed, _output_padding, _groups, (to_x, to_weight, _to_bias) = rest
    positions = math.prod((x if transposed else grad).shape[2:])
    return 2 * len(x) * positions * weight.numel() * (to_x + to_weight)


def flops_of(call: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions in a call."""
    with FlopCounter() as counter:
        call()
    return counter.total


@dataclass(frozen=True)
class StepCost:
    """FLOPs for each real sample shown to D.

    generator: G forward, for a sample drawn; d_step: of D without penalties; g_step: of G, shared out over n_critic;
    penalties: by name, shared out over `every`
    """

    generator: float
    d_step: float
    g_step: float
    penalties: dict[str, float]

    @property
    def total(self) -> float:
        return self.d_step + self.g_step + sum(self.penalties.values())


def step_cost(gan: Any, batch: Batch) -> StepCost:
    """Count one batch of a GAN's step, each part alone, forward and backward. Its weights stay as they are."""
    n = len(batch.x)

    def backward(loss_of: Callable[..., Tensor], phase: int) -> int:
        count = flops_of(lambda: loss_of(batch.x, batch.y, gan.noise(phase, n)).backward())
        gan.zero_grad(set_to_none=True)
        return count

    kept, step = gan.penalties, gan.step
    try:
        gan.step = 0  # on which every penalty is due
        gan.penalties = {}
        plain = backward(gan.d_loss, 0)
        penalties = {}
        for name, penalty in kept.items():
            gan.penalties = {name: penalty}
            penalties[name] = (backward(gan.d_loss, 0) - plain) / penalty.every / n
        with frozen(gan.discriminator):
            g_step = backward(gan.g_loss, 1)
    finally:
        gan.penalties, gan.step = kept, step
    with torch.no_grad():
        noise = gan.noise(0, n)
        generator = flops_of(lambda: gan.fakes(batch.y, noise))
    return StepCost(generator / n, plain / n, g_step / gan.n_critic / n, penalties)


# TFLOP/s by vendors' data sheets, not sparse: half precision, TF32, single precision; by words in a device's name
PEAKS = {
    "H100 PCIe": (756, 378, 51), "H100": (989, 495, 67), "H200": (989, 495, 67), "A100": (312, 156, 19.5),
    "L40S": (362, 183, 91.6), "L4": (121, 60, 30.3), "A10": (125, 62.5, 31.2),
    "V100": (125, 15.7, 15.7), "T4": (65, 8.1, 8.1), "RTX 4090": (165, 82.6, 82.6), "RTX 3090": (71, 35.6, 35.6),
}  # fmt: skip


def peak_flops(device_name: str, precision: str) -> float | None:
    """FLOP/s that a device of this name could do at most, or None where we don't know; precision: Lightning's word"""
    peak = next((p for name, p in PEAKS.items() if re.search(rf"{name}\b(?! Laptop)", device_name)), None)
    if peak is None or precision.startswith("64"):
        return None
    half, tf32, single = peak
    tensor_cores = torch.backends.cudnn.allow_tf32  # of convolutions, which most of the work is
    return 1e12 * (half if "16" in precision else tf32 if tensor_cores else single)


SPEEDS = ("samples_per_second", "tflops_per_second", "mfu")  # of the whole training


def training_cost(figures: dict[str, float], gan: Any, batch: Batch, devices: int, precision: str) -> dict[str, Any]:
    """Add to a Stopwatch's figures what the devices did in that time.

    batch: some samples, on the device
    flops_per_training_sample: as gan_kit.estimate counts; tflops_per_second: of all devices together; mfu: the share of
    what they could do at most (model-FLOPs utilisation, Chowdhery et al. 2022, "PaLM", appendix B), None where unknown
    """
    name = torch.cuda.get_device_name(gan.device) if gan.device.type == "cuda" else gan.device.type
    flops = step_cost(gan, batch).total
    done = flops * figures["samples_per_second"]
    peak = peak_flops(name, precision)
    return {
        **figures,
        "flops_per_training_sample": flops,
        "tflops_per_second": done / 1e12,
        "mfu": done / (peak * devices) if peak else None,
        "device": name,
        "devices": devices,
        "precision": precision,
    }


def keep_cost(run: Path, figures: dict[str, float] | None, gan: Any, data: Any, trainer: Any) -> str:
    """Write what a training took into RUN/cost.json, its speed to the loggers; -> that in words, "" where it was too
    short to tell.

    It uses the nets as they are left, so it comes last. Operations are counted for `GAN` itself, whose step is known.
    """
    if figures is None:
        return ""
    told: dict[str, Any] = figures
    if type(gan) is GAN:
        batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        some = Batch(batch.x[:8].to(gan.device), None if batch.y is None else batch.y[:8].to(gan.device))
        told = training_cost(figures, gan, some, trainer.world_size, str(trainer.precision))
    write_whole(run / "cost.json", json.dumps(told, indent=1) + "\n")
    speeds = {f"cost/{name}": told[name] for name in SPEEDS if told.get(name) is not None}
    for logger in trainer.loggers:
        logger.log_metrics(speeds, step=gan.samples_seen)
        logger.finalize("success")  # once more: that of the training has closed its files
    words = f"{duration(told['seconds'])} (its first steps foretold {duration(told['foretold_seconds'])}), "
    words += f"{told['samples_per_second']:,.0f} samples/s"
    if "tflops_per_second" in told:
        words += f", {told['tflops_per_second']:.3g} TFLOP/s"
    return words + (f", {told['mfu']:.1%} of the peak" if told.get("mfu") else "")


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} hours" if seconds >= 7200 else f"{seconds / 60:.1f} minutes"
