"""Vocos: published sizes, and its inverse STFT against torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gan_kit.audio import Vocos
from gan_kit.audio.vocos import overlap_add
from gan_kit.types import UserError


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
