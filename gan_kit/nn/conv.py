"""Convolution whose second derivative is as fast as its first.

PyTorch's own double backward of a convolution takes the weight's gradient as a convolution with a kernel as large as
the picture, and loops over groups; on a CPU that alone was more than half of a step with R1. Here every derivative
of a convolution is one of three products, each with a kernel made for it: forward, input gradient, weight gradient
(as in StyleGAN3's `conv2d_gradfix`, Karras et al. 2021).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

__all__ = ["Conv2d", "conv2d", "conv_transpose2d"]


class Conv2d(nn.Conv2d):
    """nn.Conv2d with zero padding, for networks under gradient penalties."""

    def forward(self, x: Tensor) -> Tensor:
        assert not isinstance(self.padding, str)
        assert self.padding_mode == "zeros"
        shape = (self.stride, self.padding, self.dilation, self.groups)
        return conv2d(x, self.weight, self.bias, *shape)  # type: ignore[arg-type]


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """F.conv2d, derivatives of all orders. x: (B, C_in, H, W), weight: (C_out, C_in/groups, h, w)"""
    shape = (stride, padding, dilation, groups)
    twice = torch.is_grad_enabled() and x.requires_grad and weight.requires_grad
    # penalties are never taken in half precision, nor through a compiled net
    if not twice or torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
        return F.conv2d(x, weight, bias, *shape)
    slot = _Slot.apply(weight, bias, (x,), shape)
    return _Conv.apply(x, weight, bias, slot, shape)


def conv_transpose2d(
    x: Tensor, weight: Tensor, stride: tuple[int, int] = (1, 1), padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """F.conv_transpose2d without a bias, derivatives of all orders. x: (B, C_in, H, W), weight: (C_in, C_out, h, w)"""
    twice = torch.is_grad_enabled() and x.requires_grad and weight.requires_grad
    if not twice or torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
        return F.conv_transpose2d(x, weight, None, stride, padding)
    shape = (stride, padding, (1, 1), 1)  # of the convolution that it is the transpose of
    slot = _TransposeSlot.apply(weight, (x,), shape)
    return _ConvTranspose.apply(x, weight, slot, shape)


class _Conv(Function):
    """The forward product; its gradient reaches x from here, the parameters through `slot`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, slot: Tensor, shape: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = shape
        return F.conv2d(x, weight, bias, *shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return _InputGradient.apply(g, weight, x.detach(), ctx.shape), None, None, g, None


class _Slot(Function):
    """Zeros of the output's shape, that no memory holds, from the parameters to the output.

    It hangs on the parameters alone, so that autograd leaves the weight's gradient out where only x's is asked for,
    as a gradient penalty does.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, x: tuple[Tensor], shape: Any) -> Tensor:
        ctx.save_for_backward(weight, *x)
        ctx.shape, ctx.biased = shape, bias is not None
        stride, padding, dilation, _ = shape
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(x[0].shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        ]
        return weight.new_zeros(()).expand(len(x[0]), len(weight), *size)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        weight, x = ctx.saved_tensors
        to_bias = g.sum((0, 2, 3)) if ctx.biased else None
        return _WeightGradient.apply(g, x, weight.detach(), ctx.shape), to_bias, None, None


class _ConvTranspose(Function):
    """As `_Conv`, of which it is the transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, slot: Tensor, shape: Any) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape = shape
        return F.conv_transpose2d(x, weight, None, shape[0], shape[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        return conv2d(g, weight, None, *ctx.shape), None, g, None


class _TransposeSlot(Function):
    """As `_Slot`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: tuple[Tensor], shape: Any) -> Tensor:
        ctx.save_for_backward(weight, *x)
        ctx.shape = shape
        stride, padding, _, _ = shape
        sides = zip(x[0].shape[2:], weight.shape[2:], stride, padding, strict=True)
        size = [(n - 1) * s - 2 * p + k for n, k, s, p in sides]
        return weight.new_zeros(()).expand(len(x[0]), weight.shape[1], *size)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        weight, x = ctx.saved_tensors
        return _WeightGradient.apply(x, g, weight.detach(), ctx.shape), None, None


class _InputGradient(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, x: Tensor, shape: Any) -> Tensor:
        ctx.save_for_backward(g, weight)
        ctx.shape = shape
        return _backward(g, x, weight, shape, 0)

    @staticmethod
    def backward(ctx: Any, gg: Tensor) -> Any:
        g, weight = ctx.saved_tensors
        to_g = conv2d(gg, weight, None, *ctx.shape) if ctx.needs_input_grad[0] else None
        to_weight = _WeightGradient.apply(g, gg, weight.detach(), ctx.shape) if ctx.needs_input_grad[1] else None
        return to_g, to_weight, None, None


class _WeightGradient(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, shape: Any) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.shape = shape
        return _backward(g, x, weight, shape, 1)

    @staticmethod
    def backward(ctx: Any, gg: Tensor) -> Any:
        g, x = ctx.saved_tensors
        to_g = conv2d(x, gg, None, *ctx.shape) if ctx.needs_input_grad[0] else None
        to_x = _InputGradient.apply(g, gg, x.detach(), ctx.shape) if ctx.needs_input_grad[1] else None
        return to_g, to_x, None, None


def _backward(g: Tensor, x: Tensor, weight: Tensor, shape: Any, which: int) -> Tensor:
    stride, padding, dilation, groups = shape
    mask = [which == 0, which == 1, False]
    out = torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, padding, dilation, False, [0, 0], groups, mask
    )
    return out[which]
