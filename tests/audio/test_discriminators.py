"""Critics of vocoders: published sizes, what each sees, gradients, state, and the spectral distances."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from gan_kit.audio import Distance, LogMel, STFTDistance, VocoderDiscriminator
from gan_kit.audio.discriminators import PeriodDiscriminator, ResolutionDiscriminator, ScaleDiscriminator
from gan_kit.types import AudioSpec, UserError

TINY: dict[str, Any] = {
    "periods": (2, 3),
    "scales": 2,
    "resolutions": (128, 64),
    "period_width": 2,
    "scale_width": 16,
    "resolution_width": 2,
}


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        hifigan = VocoderDiscriminator()
        vocos = VocoderDiscriminator(periods=(), scales=0, resolutions=(2048, 1024, 512))
    millions = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (hifigan.periods, hifigan.scales)]
    assert millions == pytest.approx([41.11, 29.62], abs=0.01)
    assert sum(p.numel() for p in vocos.resolutions.parameters()) / 1e6 == pytest.approx(3 * 0.4713, abs=0.001)


@pytest.mark.parametrize("samples", [256, 1000, 1001])
def test_shapes(samples: int) -> None:
    critique = VocoderDiscriminator(**TINY)(torch.randn(3, 1, samples))
    assert len(critique.logits) == len(critique.features) == 6
    assert all(logits.dim() == 2 and len(logits) == 3 for logits in critique.logits)
    assert [len(f) for f in critique.features] == [6, 6, 8, 8, 26, 26]
    for logits, features in zip(critique.logits, critique.features, strict=True):
        assert torch.equal(features[-1].flatten(1), logits)  # they belong to what feature matching compares


def test_each_critic_answers_for_each_sound_alone() -> None:
    D, x = VocoderDiscriminator(**TINY).eval(), torch.randn(3, 1, 500)
    together = D(x).logits
    for i in range(3):
        assert all(
            torch.allclose(a[i : i + 1], b, atol=1e-5) for a, b in zip(together, D(x[i : i + 1]).logits, strict=True)
        )


def test_a_period_mixes_no_columns() -> None:
    D = PeriodDiscriminator(5, width=2)
    x = torch.randn(1, 1, 200, requires_grad=True)
    logits, _ = D(x)
    rows = logits.shape[1] // 5
    (grad,) = torch.autograd.grad(logits.view(rows, 5)[:, 2].sum(), x)
    assert set((grad.flatten().nonzero().flatten() % 5).tolist()) == {2}


def test_resolution_hears_neither_loudness_nor_offset() -> None:
    D, x = ResolutionDiscriminator(128, width=2), torch.randn(2, 1, 600)
    assert torch.allclose(D(x)[0], D(0.1 * x + 0.3)[0], atol=1e-4)
    assert D(torch.zeros(1, 1, 600))[0].isfinite().all()


def test_the_bands_hold_every_bin_but_the_last_once() -> None:
    for n_fft in (2048, 1024, 512, 64):
        bands = ResolutionDiscriminator(n_fft, width=2).bands
        assert [b for a, b in bands][:-1] == [a for a, b in bands][1:]
        assert (bands[0][0], bands[-1][1]) == (0, n_fft // 2 + 1)


def test_spectral_norm_is_on_the_first_scale_only() -> None:
    D = VocoderDiscriminator(**TINY)
    kinds = [type(s.layers[0].parametrizations.weight[0]).__name__ for s in D.scales]
    assert kinds == ["_SpectralNorm", "_WeightNorm"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"periods": (), "scales": 0}, "needs periods, scales or resolutions"),
        ({"periods": (0,)}, "period 0"),
        ({"resolutions": (30,)}, "resolution 30"),
        ({"scale_width": 20}, "scale_width=20"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VocoderDiscriminator(**arguments)


def test_sounds_that_do_not_fit_are_refused() -> None:
    D = VocoderDiscriminator(**TINY)
    with pytest.raises(UserError, match="mono"):
        D(torch.zeros(1, 2, 500))
    with pytest.raises(UserError, match=f"60 samples are too short; clips of at least {D.least_samples}"):
        D(torch.zeros(1, 1, 60))
    assert all(logits.isfinite().all() for logits in D(torch.randn(1, 1, D.least_samples)).logits)


def test_gradients_reach_every_weight_and_the_sound_and_twice() -> None:
    D = VocoderDiscriminator(**TINY)
    x = torch.randn(2, 1, 300, requires_grad=True)
    critique = D(x)
    total = torch.stack([logits.sum() for logits in critique.logits]).sum()
    (slope,) = torch.autograd.grad(total, x, create_graph=True)
    (slope.square().sum() + total).backward()
    assert slope.abs().max() > 0
    for name, p in D.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_copies_and_state() -> None:
    D, x = VocoderDiscriminator(**TINY).eval(), torch.randn(1, 1, 300)
    twin = copy.deepcopy(D)
    fresh = VocoderDiscriminator(**D.init_args).eval()
    fresh.load_state_dict(D.state_dict())
    for other in (twin, fresh):
        assert all(torch.equal(a, b) for a, b in zip(D(x).logits, other(x).logits, strict=True))
    with torch.no_grad():
        for p in D.parameters():
            p.mul_(1.1)
    assert not torch.equal(D(x).logits[0], twin(x).logits[0])


def test_initial_weights_depend_on_the_seed_alone() -> None:
    def built(built_under: int, seed: int) -> list[torch.Tensor]:
        torch.manual_seed(built_under)
        net = VocoderDiscriminator(**TINY)
        torch.manual_seed(seed)
        net.reset_parameters()
        return list(net.state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(built(1, 5), built(2, 5), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(built(1, 5), built(1, 6), strict=True))


@pytest.mark.parametrize("norm", ["weight", "spectral", "none"])
def test_scale_takes_each_norm(norm: str) -> None:
    logits, _ = ScaleDiscriminator(16, norm)(torch.randn(2, 1, 400))
    assert logits.isfinite().all()


# ---- distances --------------------------------------------------------------------------------------------------


SPEC = AudioSpec(8000, 1024, 256, 64, 256, n_mels=20)


@pytest.mark.parametrize(
    "distance",
    [
        Distance(LogMel(SPEC)),
        Distance([LogMel(SPEC), torch.nn.Identity()]),
        STFTDistance([[256, 64, 200], [64, 16, 64]]),
    ],
    ids=["mel", "several", "stft"],
)
def test_distances_are_none_at_the_sound_itself_and_grow_with_noise(distance: torch.nn.Module) -> None:
    x = torch.randn(2, 1, 1024)
    little, much = (x + s * torch.randn_like(x) for s in (0.1, 1.0))
    assert distance(x, x) == 0
    assert 0 < distance(little, x) < distance(much, x)
    x_hat = little.clone().requires_grad_()
    distance(x_hat, x).backward()
    assert x_hat.grad is not None
    assert x_hat.grad.isfinite().all()
    silent = torch.zeros(1, 1, 1024, requires_grad=True)
    distance(silent, x[:1]).backward()
    assert silent.grad is not None
    assert silent.grad.isfinite().all()


def test_the_mel_distance_of_a_gain_is_its_logarithm() -> None:
    x = torch.randn(1, 1, 1024)
    assert Distance(LogMel(SPEC))(2 * x, x).item() == pytest.approx(0.6931, abs=1e-3)


def test_spectral_convergence_of_a_gain() -> None:
    """‖2S - S‖ / ‖S‖ = 1 and |log 2S - log S| = log 2"""
    x = torch.randn(1, 1, 1024)
    assert STFTDistance([[256, 64, 200]])(2 * x, x).item() == pytest.approx(1 + 0.6931, abs=1e-3)


def test_distances_without_a_transform_are_refused() -> None:
    with pytest.raises(UserError, match="needs a transform"):
        Distance([])
    with pytest.raises(UserError, match="one or more"):
        STFTDistance([])
