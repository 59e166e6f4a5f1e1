"""FastGAN: gates, noise, and the discriminator that decodes its own features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gan_kit.adversarial import GAN, Hinge, OwnLoss
from gan_kit.image.fastgan import Excitation, FastGANDiscriminator, FastGANGenerator, quarter_of
from gan_kit.noise import BatchNoise
from gan_kit.types import UserError

SMALL: dict[str, Any] = {"size": 64, "channels": 3, "width": 4}


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_and_gradients(size: int, classes: int) -> None:
    g = FastGANGenerator(size, num_classes=classes, z_dim=8, width=4)
    d = FastGANDiscriminator(size, num_classes=classes, width=4)
    y = torch.tensor([0, 1, 2, 0]) if classes else None
    noise = BatchNoise((0,), 4)
    x = g(noise.randn(8), y, noise)
    assert x.shape == (4, 3, size, size)
    assert x.abs().max() <= 1
    critique = d(x, y, noise)
    assert [tuple(logit.shape) for logit in critique.logits] == [(4, 5, 5), (4,)][: 1 + (classes > 0)]
    assert critique.features[0][0].shape[2:] == (16, 16)
    own = critique.aux.own_loss()
    assert own.shape == (4,)
    (sum(logit.sum() for logit in critique.logits) + own.sum()).backward()
    assert all(p.grad is not None for net in (g, d) for p in net.parameters())


def test_which_layers_gate_which() -> None:
    """16 times apart, from 64x64 to 512x512: section 3.1's pairs, and the authors' 4x4 -> 64x64"""
    assert list(FastGANGenerator(1024, z_dim=8, width=8).excitations) == ["64", "128", "256", "512"]
    assert list(FastGANGenerator(256, z_dim=8, width=4).excitations) == ["64", "128", "256"]
    assert not FastGANGenerator(32, z_dim=8, width=4).excitations


def test_a_gate_scales_whole_channels() -> None:
    gate, low, high = Excitation(5, 7), torch.randn(2, 5, 8, 8), torch.rand(2, 7, 16, 16) + 1
    share = gate(low, high) / high
    assert torch.allclose(share, share[:, :, :1, :1].expand_as(share))
    assert ((share > 0) & (share < 1)).all()


def test_noise_comes_from_its_source() -> None:
    g = FastGANGenerator(**SMALL, z_dim=8)
    z = torch.randn(4, 8)
    with torch.no_grad():
        assert torch.equal(g(z, noise=BatchNoise((1,), 4)), g(z))  # strengths are 0 at first
        for name, p in g.named_parameters():
            if name.endswith("strength"):
                p.fill_(0.5)
        assert torch.equal(g(z, noise=BatchNoise((1,), 4)), g(z, noise=BatchNoise((1,), 4)))
        assert not torch.equal(g(z, noise=BatchNoise((1,), 4)), g(z, noise=BatchNoise((2,), 4)))


def test_quarters_lie_where_their_pictures_do() -> None:
    x = torch.arange(4.0).repeat_interleave(2).view(1, 1, 2, 4)[:, :, :, ::2]  # [[0, 1], [2, 3]]
    x = x.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(4, 2, 8, 8)
    which = torch.tensor([3, 0, 2, 1])
    assert torch.equal(quarter_of(x, which).mean((1, 2, 3)), which.float())


def test_own_loss_is_of_reals_alone_and_teaches_to_decode() -> None:
    torch.manual_seed(0)
    d = FastGANDiscriminator(32, 1, width=8)
    adam = torch.optim.Adam(d.parameters(), 2e-3)
    x = (torch.rand(8, 1, 2, 2).round() * 1.6 - 0.8).repeat_interleave(16, 2).repeat_interleave(16, 3)
    losses = []
    for step in range(60):
        loss = d(x, noise=BatchNoise((step,), 8)).aux.own_loss().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_in_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    g, d = FastGANGenerator(32, 1, z_dim=8, width=4), FastGANDiscriminator(32, 1, width=4)
    calls = []
    decode = d.reconstruction
    monkeypatch.setattr(d, "reconstruction", lambda x, *more: calls.append(x) or decode(x, *more))
    gan = GAN(g, d, Hinge(), torch.optim.Adam, torch.optim.Adam, {"own": OwnLoss(0.5)})
    real = torch.rand(4, 1, 32, 32) * 2 - 1
    with_own = gan.d_loss(real, None, gan.noise(0, 4))
    assert len(calls) == 1  # of the reals, once
    assert torch.equal(calls[0], real)
    own = gan.scalars["penalty_own"]
    torch.testing.assert_close(with_own, gan.scalars["loss_d"] + own)
    gan.g_loss(real, None, gan.noise(1, 4))
    assert len(calls) == 1


def test_mistakes_are_told() -> None:
    from gan_kit.image import DCGANDiscriminator

    with pytest.raises(UserError, match="16 is not a power of two from 32"):
        FastGANGenerator(16)
    gan = GAN(
        FastGANGenerator(32, 1, z_dim=8, width=4),
        DCGANDiscriminator(32, 1, width=4),
        Hinge(),
        torch.optim.Adam,
        torch.optim.Adam,
        {"own": OwnLoss()},
    )
    with pytest.raises(UserError, match="DCGANDiscriminator has no loss of its own"):
        gan.d_loss(torch.zeros(4, 1, 32, 32), None, gan.noise(0, 4))
