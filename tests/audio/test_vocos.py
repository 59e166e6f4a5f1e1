"""Vocos: published sizes, and its inverse STFT against torch's."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gan_kit.audio import Vocos
from gan_kit.audio.spectral import log_mel, mel_filterbank, stft
from gan_kit.audio.vocos import Bands, overlap_add
from gan_kit.types import AudioSpec, UserError

SPEC = AudioSpec(
    sample_rate=16000, clip_samples=4096, n_fft=512, hop_length=128, win_length=512, center=False, n_mels=40,
    fmin=0.0, fmax=6000.0, mel_scale="slaney", mel_norm="slaney", power=1.0, log="ln", eps=1e-5,
)  # fmt: skip


def sound(length: int = 4096) -> torch.Tensor:
    """(1, 1, T): a falling harmonic tone in a little noise"""
    t = torch.arange(length) / 16000
    tone = sum(torch.sin(2 * torch.pi * k * (300 * t - 400 * t**2)) / k for k in range(1, 12))
    noise = torch.randn(length, generator=torch.Generator().manual_seed(0))
    return (0.1 * tone + 0.01 * noise)[None, None]


@pytest.mark.parametrize(
    "arguments, parameters",
    [({}, 13.53e6), ({"n_mels": 80, "width": 128, "hidden": 288, "blocks": 4}, 0.507e6)],
    ids=["published", "tiny"],
)
def test_sizes(arguments: dict[str, Any], parameters: float) -> None:
    net = Vocos(**arguments)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, rel=1e-3)


@pytest.mark.parametrize("n_fft, hop", [(16, 4), (16, 8), (12, 2)])
def test_overlap_add_is_fold(n_fft: int, hop: int) -> None:
    frames = torch.randn(3, 7, n_fft)
    length = n_fft + 6 * hop
    folded = F.fold(frames.transpose(1, 2), (1, length), (1, n_fft), stride=(1, hop))
    assert torch.allclose(overlap_add(frames, hop), folded[:, 0, 0], atol=1e-6)


@pytest.mark.parametrize("n_fft, hop", [(64, 16), (64, 8), (32, 16)])
def test_the_inverse_stft_is_torchs(n_fft: int, hop: int) -> None:
    net = Vocos(8, 8, 8, 1, n_fft, hop)
    x = torch.randn(2, 20 * hop)
    s = torch.stft(x, n_fft, hop, window=net.window, return_complex=True)
    back = net.to_wave(s.transpose(1, 2))[:, : x.shape[1]]
    assert torch.allclose(back, x, atol=1e-5)
    made_up = torch.randn_like(s)  # no sound's: the least-squares one comes out, as of torch
    made_up.imag[:, [0, -1]] = 0
    theirs = torch.istft(made_up, n_fft, hop, window=net.window, length=x.shape[1])
    assert torch.allclose(net.to_wave(made_up.transpose(1, 2))[:, : x.shape[1]], theirs, atol=1e-5)


def test_uncentred_frames_give_back_the_sound_too() -> None:
    net = Vocos(8, 8, 8, 1, 64, 16, center=False)
    x = torch.randn(1, 1, 320)
    padded = F.pad(x, (24, 24), mode="reflect")[:, 0]
    s = torch.stft(padded, 64, 16, window=net.window, center=False, return_complex=True)
    assert s.shape[-1] == 20
    assert torch.allclose(net.to_wave(s.transpose(1, 2)), x[:, 0], atol=1e-4)


@pytest.mark.parametrize("n_fft, hop", [(1024, 300), (256, 256), (1024, 0), (6, 3)])
def test_hops_that_do_not_fit_are_refused(n_fft: int, hop: int) -> None:
    with pytest.raises(UserError, match=f"n_fft={n_fft} must be 2 or more whole hops"):
        Vocos(n_fft=n_fft, hop_length=hop)


def test_loud_frames_are_held_in() -> None:
    net = Vocos(8, 8, 8, 1, 32, 8)
    with torch.no_grad():
        net.head.bias.fill_(50.0)
    assert net(torch.randn(1, 8, 10)).isfinite().all()


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_magnitudes_from_bands_have_these_bands(power: float) -> None:
    spec = dataclasses.replace(SPEC, power=power)
    mel = log_mel(sound(), spec)[0].transpose(1, 2)
    bands = mel_filterbank(spec)
    seen = bands.sum(0) > 0

    def off(steps: int) -> float:
        told = Bands(spec)
        out = told.smooth(told.energy(mel), steps)
        assert out.shape == (1, 32, 257)
        assert (out[..., ~seen] == 1).all()
        again = (torch.where(seen, out, 0) ** power) @ bands.T
        return float((again.clamp_min(1e-5).log() - mel).abs().mean())

    assert off(40) < off(5) < off(0)
    assert off(5) < 0.11 * power


def test_a_sound_is_its_own_refinement() -> None:
    spectrum = stft(sound(), SPEC)[:, 0].transpose(1, 2)
    net = Vocos(40, 8, 8, 1, 512, 128, center=False, refine=5)
    assert torch.allclose(net.consistent(spectrum.abs(), spectrum.angle()), spectrum, atol=1e-2)


def test_refinement_finds_phases_that_agree() -> None:
    """From phases that are wrong, the wave's own magnitude comes nearer to the one that was asked for."""
    asked = stft(sound(), SPEC)[:, 0].transpose(1, 2)
    turned = asked.angle() + torch.randn(asked.shape, generator=torch.Generator().manual_seed(1))

    def off(refine: int) -> float:
        net = Vocos(40, 8, 8, 1, 512, 128, center=False, refine=refine)
        wave = net.to_wave(net.consistent(asked.abs(), turned))
        found = stft(wave[:, None], SPEC)[:, 0].transpose(1, 2).abs()
        return float((found - asked.abs()).norm() / asked.norm())

    assert off(8) < off(2) < off(0)
    assert off(8) < off(0) / 2


def test_polishing_holds_to_the_bands() -> None:
    """Where nothing is trained, the wave's own bands come far nearer to those asked for than by fixed magnitudes."""
    mel = log_mel(sound(), SPEC)[:, 0]

    def off(**steps: int) -> float:
        torch.manual_seed(0)
        net = Vocos(40, 16, 16, 1, 512, 128, center=False, prior=True, spec=SPEC, **steps).eval()
        with torch.no_grad():
            net.head.weight.mul_(20)  # magnitudes that are wrong
            return float((log_mel(net(mel), SPEC)[:, 0] - mel).abs().mean())

    assert off(refine=2, polish=20) < 0.6 * off(refine=22)
    assert Vocos(40, 16, 16, 1, 512, 128, center=False, prior=True, spec=SPEC, polish=20).train()(mel).requires_grad


def test_gradients_pass_the_refinement() -> None:
    net = Vocos(40, 16, 16, 1, 512, 128, center=False, prior=True, refine=3, spec=SPEC)
    mel = log_mel(sound(), SPEC)[:, 0]
    before = None
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(20):
        loss = (log_mel(net(mel), SPEC)[:, 0] - mel).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        before = loss.item() if before is None else before
    assert loss.item() < 0.8 * before


def test_a_prior_of_other_mels_is_refused() -> None:
    with pytest.raises(UserError, match="spec has 40 mel bands of n_fft=512, the net 80 of n_fft=512"):
        Vocos(80, 8, 8, 1, 512, 128, prior=True, spec=SPEC)
    Vocos(40, 8, 8, 1, 256, 128, spec=SPEC)  # a head of another n_fft, as bundles bring their spec to every net
    with pytest.raises(UserError, match="prior=true needs spec"):
        Vocos(prior=True)
    with pytest.raises(UserError, match="refine=-1"):
        Vocos(refine=-1)
