"""StyleGAN2's operators beside naive versions: the same numbers to 1e-5, in less time.

    python benchmarks/stylegan2.py [--threads 1] [--rounds 15] [--batch 16] [--cpu-time]

Each row is a forward and a backward pass, as in training, both sides taking turns on the same random numbers; "differs"
is the largest difference of results and input gradients, relative to the largest of their values. Naive is what one
writes from the papers: a convolution of one group a sample; zeros put in, the filter, samples left out; the wavelets of
an ADA warp as convolutions.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import interleaved
from torch import Tensor

from gan_kit.image.stylegan2 import modulated_conv2d
from gan_kit.image.warp import MARGIN, PHASE, SYM6, entry, mirrored, warp
from gan_kit.nn import Downsample, Upsample, blur

Op = Callable[..., Tensor]


def upfirdn(x: Tensor, taps: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Zeros between the samples and around, the filter along both axes, each `down`-th sample; taps: (K,)"""
    b, c, h, w = x.shape
    sparse = x.new_zeros(b, c, h, up, w, up)
    sparse[:, :, :, 0, :, 0] = x
    x = F.pad(sparse.view(b, c, h * up, w * up), (*pad, *pad))
    kernel = torch.outer(taps, taps).flip(0, 1).to(x).expand(c, 1, -1, -1)
    return F.conv2d(x, kernel, groups=c)[:, :, ::down, ::down]


TAPS = torch.tensor([1.0, 3, 3, 1]) / 8


def naive_blur(x: Tensor) -> Tensor:
    return upfirdn(x, TAPS, pad=(2, 2))


def naive_upsample(x: Tensor) -> Tensor:
    x = upfirdn(F.pad(x, (1, 1, 1, 1), mode="replicate"), 2 * TAPS, up=2)  # 2H + 1: the last lies beyond the edge
    return x[:, :, :-1, :-1]


def naive_downsample(x: Tensor) -> Tensor:
    return upfirdn(F.pad(x, (1, 1, 1, 1), mode="replicate"), TAPS, down=2)


def naive_modulated(up: bool) -> Op:
    def call(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
        b, c, h, w = x.shape
        each = weight[None] * style[:, None, :, None, None]
        each = each / (each.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        x = x.reshape(1, b * c, h, w)
        if up:
            x = F.conv_transpose2d(x, each.transpose(1, 2).reshape(b * c, -1, 3, 3), stride=2, groups=b)
            return upfirdn(x.view(b, -1, 2 * h + 1, 2 * w + 1), 2 * TAPS, pad=(1, 1))
        return F.conv2d(x, each.reshape(-1, c, 3, 3), padding=1, groups=b).view(b, -1, h, w)

    return call


def naive_warp(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    h, w = x.shape[2:]
    rows, columns = (mirrored(torch.arange(-MARGIN, n + MARGIN), n) for n in (h, w))
    wavelet = torch.tensor(SYM6)
    skip, tail = 2 * MARGIN - 2, len(SYM6) - 1
    fine = upfirdn(x[:, :, rows][:, :, :, columns], wavelet * 2**0.5, up=2, pad=(tail, tail))
    fine = fine[:, :, skip : skip + 2 * (h + MARGIN) + 2, skip : skip + 2 * (w + MARGIN) + 2]
    places = [torch.arange(2 * n + len(SYM6) - 2) for n in (w, h)]
    across, along = ((k - PHASE) / 2 - (n - 1) / 2 for k, n in zip(places, (w, h), strict=True))
    where = torch.stack(torch.broadcast_tensors(across[None, :], along[:, None]), -1)
    source = torch.einsum("bij,hwj->bhwi", matrix, where) + shift[:, None, None]
    grid = torch.stack([entry(source[..., i], n) for i, n in enumerate((w, h))], -1)
    moved = F.grid_sample(fine, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return upfirdn(moved, wavelet.flip(0) / 2**0.5, down=2)


def trained(call: Op, inputs: list[Tensor], probe: Tensor) -> list[Tensor]:
    """The result, and the gradients of what takes any."""
    leaves = [t.detach().requires_grad_(t.requires_grad) for t in inputs]
    out = call(*leaves)
    return [out.detach(), *torch.autograd.grad((out * probe).sum(), [t for t in leaves if t.requires_grad])]


def row(name: str, ours: Op, naive: Op, inputs: list[Tensor], rounds: int, clock: Callable[[], float]) -> None:
    probe = torch.randn_like(ours(*inputs))
    pairs = zip(trained(ours, inputs, probe), trained(naive, inputs, probe), strict=True)
    differs = max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    calls = {"ours": lambda: trained(ours, inputs, probe), "naive": lambda: trained(naive, inputs, probe)}
    seconds = interleaved(rounds, calls, clock)
    factor = seconds["naive"] / seconds["ours"]
    shape = " x ".join(map(str, inputs[0].shape))
    print(
        f"| {name} | {shape} | {1e3 * seconds['ours']:.2f} | {1e3 * seconds['naive']:.2f} | {factor:.2f} "
        f"| {differs:.0e} |",
        flush=True,
    )
    assert differs < 1e-5, f"{name} differs from the naive version by {differs:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--cpu-time", action="store_true", help="in place of the wall's, where other work runs too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    b, rounds, clock = args.batch, args.rounds, time.process_time if args.cpu_time else time.perf_counter

    def features(channels: int, size: int) -> Tensor:
        x = torch.randn(b, channels, size, size)
        return x.contiguous(memory_format=torch.channels_last).requires_grad_()

    def weights(c_in: int, c_out: int) -> list[Tensor]:
        return [torch.randn(c_out, c_in, 3, 3, requires_grad=True), (torch.randn(b, c_in) + 1).requires_grad_()]

    print(f"torch {torch.__version__}, {args.threads} thread(s), {platform.machine()}, forward and backward\n")
    print("| operator | input | ours, ms | naive, ms | times as fast | differs |\n|---|---|---|---|---|---|")
    for channels, size in ((256, 8), (64, 32)):
        inputs = [features(channels, size), *weights(channels, channels)]
        row("modulated 3x3", modulated_conv2d, naive_modulated(up=False), inputs, rounds, clock)
        row(
            "modulated 3x3, up",
            lambda x, w, s: modulated_conv2d(x, w, s, up=True),
            naive_modulated(up=True),
            inputs,
            rounds,
            clock,
        )
    for channels, size in ((256, 8), (64, 32)):
        x = [features(channels, size)]
        row("filter", lambda x: blur(x, 2), naive_blur, x, rounds, clock)
        row("downsample", Downsample(), naive_downsample, x, rounds, clock)
        row("upsample", Upsample(), naive_upsample, x, rounds, clock)
    for channels, size in ((3, 32), (3, 64)):
        angle = torch.rand(b) * 6.28
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(b, 2, 2)
        picture = torch.randn(b, channels, size, size, requires_grad=True)
        row("ADA's warp", warp, naive_warp, [picture, turn * 0.9, torch.randn(b, 2)], rounds, clock)


if __name__ == "__main__":
    main()
