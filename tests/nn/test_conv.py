"""Our convolution is torch's, with its derivatives of first and second order."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn import functional as F

from gan_kit.nn import Conv2d, conv2d, conv_transpose2d

CASES = [
    # kernel, stride, padding, dilation, groups
    (1, 1, 0, 1, 1),
    (3, 1, 1, 1, 1),
    (3, 1, 1, 1, 2),
    (4, 2, 1, 1, 1),
    (3, 2, 0, 2, 4),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), CASES)
@pytest.mark.parametrize("biased", [True, False])
def test_derivatives(kernel: int, stride: int, padding: int, dilation: int, groups: int, biased: bool) -> None:
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 4 // groups, kernel, kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True) if biased else None
    shape = ((stride,) * 2, (padding,) * 2, (dilation,) * 2, groups)

    def ours(x, weight, *bias):
        return conv2d(x, weight, bias[0] if bias else None, *shape)

    given = (x, weight, bias) if biased else (x, weight)
    torch.testing.assert_close(ours(*given), F.conv2d(x, weight, bias, *shape))
    assert gradcheck(ours, given, fast_mode=True)
    assert gradgradcheck(ours, given, fast_mode=True)


def test_a_gradient_penalty_gives_the_weights_the_gradient_that_torch_gives() -> None:
    ours, theirs = Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(3, 4, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    for conv in (ours, theirs):
        y = conv(x)
        (slope,) = grad(y.tanh().sum(), x, create_graph=True)
        (y.square().mean() + slope.square().sum()).backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 0), (3, 1, 1), (4, 2, 1)])
def test_transposed_convolution_and_its_derivatives(kernel: int, stride: int, padding: int) -> None:
    x = torch.randn(2, 4, 4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 2, kernel, kernel, dtype=torch.float64, requires_grad=True)
    pairs = ((stride, stride), (padding, padding))
    ours = lambda x, weight: conv_transpose2d(x, weight, *pairs)  # noqa: E731
    torch.testing.assert_close(ours(x, weight), F.conv_transpose2d(x, weight, None, *pairs))
    assert gradcheck(ours, (x, weight), fast_mode=True)
    assert gradgradcheck(ours, (x, weight), fast_mode=True)
