"""Directions against closed forms, and against what was planted."""

from __future__ import annotations

import pytest
import torch
from latent_nets import Linear, Styled
from torch import nn

from gan_kit.audio import WaveGANGenerator
from gan_kit.image import DCGANGenerator, R3GANGenerator, StyleGAN2Generator
from gan_kit.latent import Latent, Normal, Uniform, directions, jacobian, pca, sefa
from gan_kit.types import UserError
from gan_kit.vector import MLPGenerator


def frozen(net):
    return net.eval().requires_grad_(False)


def leading(weight, count):
    """The closed form: eigenvectors of AᵀA."""
    values, vectors = torch.linalg.eigh(weight.T.double() @ weight.double())
    return values.flip(0)[:count].float(), vectors.T.flip(0)[:count].float()


def same_lines(a, b, atol=1e-4):
    torch.testing.assert_close((a * b).sum(1).abs(), torch.ones(len(a)), atol=atol, rtol=0)


@pytest.mark.parametrize("method", [sefa, jacobian])
@pytest.mark.parametrize("prior", [Normal(), Uniform()])
def test_of_a_linear_generator_they_are_eigenvectors(method, prior):
    weight = torch.randn(20, 7)
    found = method(Latent(Linear(weight), prior), 4)
    values, vectors = leading(weight, 4)
    same_lines(found.vectors, vectors)
    torch.testing.assert_close(found.values, values, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(4))


def weight_of(net):
    """(outputs, z_dim): what the first layer does with z; the classes' part stands behind it"""
    first = next(m for m in net.modules() if isinstance(m, nn.Linear | nn.ConvTranspose2d))
    weight = first.weight if isinstance(first, nn.Linear) else first.weight.flatten(1).T
    return weight[:, : net.z_dim]


@pytest.mark.parametrize(
    "net",
    [
        DCGANGenerator(8, 1, 3, 12, width=4),
        R3GANGenerator(8, 1, 3, 16, 8, widths=[8, 8], blocks=1, expansion=1, group_size=None),
        WaveGANGenerator(256, num_classes=3, z_dim=10, width=2),
        MLPGenerator(num_classes=3, width=16),
    ],
    ids=lambda net: type(net).__name__,
)
def test_sefa_finds_the_layer_that_reads_z(net):
    found = sefa(Latent(frozen(net), Normal()), 3)
    values, vectors = leading(weight_of(net), 3)
    same_lines(found.vectors, vectors)
    torch.testing.assert_close(found.values, values, rtol=1e-3, atol=1e-5)


def test_sefa_sees_a_parametrised_weight_as_it_is_used():
    net = Linear(torch.randn(9, 6))
    nn.utils.parametrizations.spectral_norm(net.layer)
    same_lines(sefa(Latent(net.eval(), Normal()), 3).vectors, leading(net.layer.weight, 3)[1])


@pytest.mark.parametrize("layers", ["all", "coarse", "1-2"])
def test_sefa_of_w_stacks_the_styles_of_its_layers(layers):
    net = Styled()
    latent = Latent(net, Normal())
    stacked = torch.cat([a.weight for a in net.affines[latent.layers(layers)]])
    same_lines(sefa(latent, 3, layers).vectors, leading(stacked, 3)[1])


def test_sefa_of_stylegan2_stacks_the_styles_that_it_uses():
    net = frozen(StyleGAN2Generator(8, 1, 0, 8, 8, mapping_layers=2, channel_base=64, channel_max=8))
    read = []
    hooks = [
        m.register_forward_pre_hook(lambda m, given: read.append(m.weight * m.weight_scale))
        for m in net.modules()
        if type(m).__name__ == "EqualLinear" and m not in net.layers
    ]
    net.synthesis(torch.zeros(1, net.num_ws, 8))
    for hook in hooks:
        hook.remove()
    assert len(read) > 3
    same_lines(sefa(Latent(net, Normal()), 3).vectors, leading(torch.cat(read), 3)[1])


def test_where_nothing_reads_z_itself_the_jacobian_stands_in():
    class Normed(Linear):
        def forward(self, z, y=None):
            return super().forward(z / z.norm(dim=1, keepdim=True))

    latent = Latent(Normed(torch.randn(20, 7)), Normal())
    with pytest.raises(UserError, match=r"no linear layer of Normed reads z itself.*method=jacobian"):
        sefa(latent)
    assert directions(latent).method == "jacobian"
    assert directions(Latent(Linear(torch.eye(4)), Normal()), count=2).method == "sefa"


def test_the_jacobian_of_w_is_that_of_the_layers_asked_for():
    net = Styled()
    for affine in net.affines[:2]:
        affine.weight.zero_()  # nothing to be seen of these
    latent = Latent(net, Normal())
    assert jacobian(latent, 2, "coarse", n=2).values.max() < 1e-8
    assert jacobian(latent, 2, "2-3", n=2).values.min() > 1e-4


class Planted(nn.Module):
    """Features that vary along one direction of z above all, in every class about another mean."""

    z_dim, num_classes = 6, 3

    def __init__(self, direction, jump):
        super().__init__()
        self.first, self.second, self.embed = nn.Linear(6, 12), nn.Linear(12, 4), nn.Embedding(3, 12)
        rows = torch.linalg.qr(torch.randn(12, 12)).Q
        self.first.weight.data = 0.3 * rows[:, :6] + 4 * rows[:, 6:7] * direction
        self.embed.weight.data *= jump
        frozen(self)

    def forward(self, z, y=None):
        return self.second(torch.tanh(0.1 * self.first(z)) + self.embed(y))


@pytest.mark.parametrize("jump", [0.0, 100.0])
def test_pca_finds_the_planted_direction(jump):
    planted = torch.randn(6)
    planted /= planted.norm()
    found = pca(Latent(Planted(planted, jump), Normal()), 2)
    assert float(found.vectors[0] @ planted) ** 2 > 0.98  # classes far apart change nothing
    assert found.values[0] > 5 * found.values[1]


def test_pca_of_w_finds_the_planted_direction():
    net = Styled()
    net.map.weight.zero_()
    net.map.bias.zero_()
    net.map.weight[:, 0] = torch.tensor([0.2, 0.0, -0.2, 0.0, 0.0])
    net.map.weight[:, 1] = torch.tensor([0.0, 0.05, 0.0, 0.0, 0.0])
    found = pca(Latent(net, Normal()), 2)
    same_lines(found.vectors, torch.tensor([[0.5**0.5, 0, -(0.5**0.5), 0, 0], [0, 1, 0, 0, 0]]), atol=0.01)
    assert found.step(0, 2.0).norm() == pytest.approx(2 * float(found.scales[0]))


def test_pca_of_a_named_layer_and_of_none():
    latent = Latent(MLPGenerator(width=16).eval().requires_grad_(False), Normal())
    assert len(pca(latent, 3, layer="net.4")) == 3
    with pytest.raises(UserError, match=r"no layer 'net.9'; have net"):
        pca(latent, 3, layer="net.9")
    with pytest.raises(UserError, match="too few"):
        pca(latent, 3, n=10)
    with pytest.raises(UserError, match="ask for 1 to 16"):
        directions(latent, "sefa", 17)


@pytest.mark.parametrize("method", ["sefa", "pca", "jacobian"])
def test_the_same_every_time_and_whatever_the_batch_size(method):
    latent = Latent(frozen(DCGANGenerator(8, 1, 3, 12, width=4)), Normal())
    once = directions(latent, method, 2)
    assert directions(latent, method, 2).vectors.equal(once.vectors)
    same_lines(directions(latent, method, 2, batch_size=7).vectors, once.vectors, atol=1e-3)
