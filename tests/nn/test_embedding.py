"""What generators read of a condition."""

from __future__ import annotations

import math

import pytest
import torch

from gan_kit.nn import ClassEmbedding, VectorEmbedding, embedding
from gan_kit.types import UserError


def test_a_one_hot_vector_is_its_class() -> None:
    classes, vectors = ClassEmbedding(5, 8), VectorEmbedding(5, 8)
    vectors.weight.data.copy_(classes.weight.data.T)
    y = torch.tensor([3, 0, 3])
    assert vectors(torch.eye(5)[y], 3).equal(classes(y, 3))


def test_both_begin_with_the_spread_that_is_asked_for() -> None:
    torch.manual_seed(0)
    for net in (ClassEmbedding(64, 256), VectorEmbedding(64, 256, null_class=True)):
        for std in (1.0, 0.02):
            net.reset_parameters(std=std)
            assert net.weight.std().item() == pytest.approx(std, rel=0.05)


def test_samples_without_a_label_are_the_null_class() -> None:
    net = ClassEmbedding(3, 4, null_class=True)
    null = net.weight[3].expand(2, -1)
    assert net(None, 2).equal(null)
    assert net(torch.tensor([-1, 3]), 2).equal(null)
    assert net(torch.tensor([2, -1]), 2).equal(net.weight[[2, 3]])


def test_samples_without_a_vector_get_an_answer_that_is_learned() -> None:
    net = VectorEmbedding(3, 4, null_class=True)
    y = torch.randn(3, 3)
    y[1, 2] = math.nan
    out = net(y, 3)
    assert net.null is not None
    assert out[1].equal(net.null)
    assert out[0].allclose(net.weight @ y[0])
    assert net(None, 2).equal(net.null.expand(2, -1))
    out.sum().backward()
    assert net.weight.grad is not None
    assert net.weight.grad.isfinite().all()
    assert net.null.grad is not None
    assert net.null.grad.equal(torch.ones(4))


@pytest.mark.parametrize(
    ("net", "y", "message"),
    [
        (ClassEmbedding(3, 4), None, "one of 3 classes; give labels"),
        (ClassEmbedding(3, 4), torch.zeros(2, 7), "vector_dim=7"),
        (VectorEmbedding(3, 4), None, r"vectors of 3; give y of shape \(2, 3\)"),
        (VectorEmbedding(3, 4), torch.zeros(2, 5), r"not on y of shape \(2, 5\)"),
        (VectorEmbedding(3, 4), torch.zeros(2, dtype=torch.long), "int64"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(net: torch.nn.Module, y: torch.Tensor | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        net(y, 2)


def test_a_network_takes_classes_or_vectors_not_both() -> None:
    assert embedding(0, 4) is None
    with pytest.raises(UserError, match="num_classes=2 and vector_dim=3"):
        embedding(2, 4, vector_dim=3)
