"""The conditioned head: each kind's formula by hand, labels that are missing, and SAN's two paths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gan_kit.nn import ClassHead
from gan_kit.types import UserError

B, WIDTH, CLASSES = 5, 6, 3
KINDS = ["none", "projection", "concat", "auxiliary", "d2d-ce"]
kinds = pytest.mark.parametrize("kind", KINDS)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(B, WIDTH), torch.arange(B) % CLASSES


@kinds
@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("embed_dim", [0, 4])
def test_shapes(kind: str, embed_dim: int, spectral: bool) -> None:
    h, y = inputs()
    logit, aux = ClassHead(WIDTH, CLASSES, kind, embed_dim, spectral)(h, y)
    assert logit.shape == (B,)
    assert (aux is None) == (kind in ("none", "projection", "concat"))
    if kind == "auxiliary":
        assert aux.logits.shape == (B, CLASSES)
    if kind == "d2d-ce":
        assert aux.embedding.shape == (B, embed_dim or 128)
        for unit in (aux.embedding, aux.proxies):
            assert torch.allclose(unit.norm(dim=1), torch.ones(len(unit)), atol=1e-5)


@kinds
def test_no_classes_is_unconditional_whatever_the_kind(kind: str) -> None:
    h, _ = inputs()
    head = ClassHead(WIDTH, 0, kind)
    assert [name for name, _ in head.named_parameters()] == ["psi.weight", "psi.bias"]
    assert torch.equal(head(h)[0], head.psi(h).squeeze(1))
    assert head(h)[1] is None


def test_projection_by_hand() -> None:
    h, y = inputs()
    head = ClassHead(WIDTH, CLASSES)
    expected = [head.psi(h[i])[0] + h[i] @ head.embed.weight[y[i]] for i in range(B)]
    assert torch.allclose(head(h, y)[0], torch.stack(expected), atol=1e-6)
    mapped = ClassHead(WIDTH, CLASSES, embed_dim=4)
    expected = [mapped.psi(h[i])[0] + (mapped.map.weight @ h[i]) @ mapped.embed.weight[y[i]] for i in range(B)]
    assert torch.allclose(mapped(h, y)[0], torch.stack(expected), atol=1e-6)


def test_concat_by_hand() -> None:
    h, y = inputs()
    head = ClassHead(WIDTH, CLASSES, "concat", embed_dim=4)
    hidden = F.leaky_relu(head.joined(torch.cat([h, head.embed.weight[y]], 1)), 0.2)
    assert torch.allclose(head(h, y)[0], head.psi(hidden).squeeze(1))


@pytest.mark.parametrize("kind", ["projection", "concat"])
def test_the_null_class_stands_for_labels_that_are_missing(kind: str) -> None:
    h, _ = inputs()
    head = ClassHead(WIDTH, CLASSES, kind, null_class=True)
    assert len(head.embed.weight) == CLASSES + 1
    null = head(h, torch.full((B,), CLASSES))[0]
    assert torch.equal(head(h, torch.full((B,), -1))[0], null)
    assert torch.allclose(head(h, None)[0], null, atol=1e-6)
    assert not torch.allclose(head(h, torch.zeros(B, dtype=torch.long))[0], null)


@pytest.mark.parametrize("kind", ["projection", "concat"])
def test_labels_that_are_missing_without_a_null_class_are_refused(kind: str) -> None:
    with pytest.raises(UserError, match="one of 3 classes, and the batch has no labels"):
        ClassHead(WIDTH, CLASSES, kind)(torch.randn(2, WIDTH))


@pytest.mark.parametrize("kind", ["projection", "concat"])
def test_vectors_condition_linearly(kind: str) -> None:
    h, v = torch.randn(B, WIDTH), torch.randn(B, 7)
    head = ClassHead(WIDTH, kind=kind, vector_dim=7)
    one_hot = ClassHead(WIDTH, 7, kind)
    one_hot.load_state_dict({k: w.T if k == "embed.weight" else w for k, w in head.state_dict().items()})
    y = torch.arange(B)
    assert torch.allclose(head(h, F.one_hot(y, 7).float())[0], one_hot(h, y)[0], atol=1e-6)
    assert head(h, v)[0].shape == (B,)
    with pytest.raises(UserError, match="vectors of 7"):
        head(h)


@kinds
def test_sliced_is_the_logit_with_a_last_layer_of_length_one(kind: str) -> None:
    h, y = inputs()
    head = ClassHead(WIDTH, CLASSES, kind)
    torch.nn.init.constant_(head.psi.bias, 0.3)
    plain = head(h, y)[0]
    head.sliced = True
    h.requires_grad_()
    logit, aux = head(h, y)
    if kind == "projection":
        omega = head.psi.weight + head.embed.weight[y]
        assert torch.allclose(logit - 0.3, (plain - 0.3) / omega.norm(dim=1), atol=1e-5)
    else:
        assert torch.allclose(logit - 0.3, (plain - 0.3) / head.psi.weight.norm(), atol=1e-5)
    assert torch.allclose(aux.direction, logit - 0.3, atol=1e-6)
    (of_h,) = torch.autograd.grad(logit.sum(), h, retain_graph=True)
    if kind == "projection":
        assert torch.allclose(of_h, F.normalize(head.psi.weight + head.embed.weight[y], dim=1), atol=1e-6)
    weights = [head.psi.weight] + ([head.embed.weight] if kind == "projection" else [])
    assert all(g is None for g in torch.autograd.grad(logit.sum(), weights, allow_unused=True, retain_graph=True))
    moved = torch.autograd.grad(aux.direction.sum(), [h, *weights], allow_unused=True)
    assert moved[0] is None
    assert all(g is not None and g.any() for g in moved[1:])


@kinds
def test_all_parameters_learn_from_logit_and_aux(kind: str) -> None:
    h, y = inputs()
    head = ClassHead(WIDTH, CLASSES, kind, embed_dim=4, null_class=True)
    logit, aux = head(h, y)
    parts = [part for part in (aux or ()) if part is not None]
    (logit.square().sum() + sum((part * torch.randn_like(part)).sum() for part in parts)).backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_spectral_norm_divides_by_the_largest_singular_value_and_starts_anew_with_new_weights() -> None:
    head = ClassHead(WIDTH, CLASSES, spectral=True)
    for again in (False, True):
        if again:
            head.reset_parameters()
        for layer in (head.psi, head.embed):
            assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.02)


def test_seeds_fix_the_weights() -> None:
    heads = []
    for _ in range(2):
        head = ClassHead(WIDTH, CLASSES, "d2d-ce", spectral=True)
        torch.manual_seed(3)
        head.reset_parameters()
        heads.append(head.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(h.values() for h in heads), strict=True) if a is not None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "films"}, "no conditioning='films'; have none, projection"),
        ({"num_classes": 3, "vector_dim": 4}, "num_classes=3 and vector_dim=4"),
        ({"vector_dim": 4, "kind": "auxiliary"}, "conditioning='auxiliary' needs classes"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClassHead(WIDTH, **arguments)
