"""HiFi-GAN and its activations: published sizes, receptive field, chunks and streams, weight norm taken off."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from gan_kit.audio import AntiAliased, HiFiGAN, Snake, Stream, Vocos, hifigan, vocode
from gan_kit.audio.snake import kaiser_sinc
from gan_kit.types import UserError

TINY: dict[str, Any] = {
    "n_mels": 8,
    "width": 16,
    "upsample_rates": (4, 2),
    "upsample_kernels": (8, 4),
    "block_kernels": (3, 5),
    "dilations": ((1, 3), (1, 2)),
}
NETS = {
    "hifigan": lambda **more: HiFiGAN(**{**TINY, **more}),
    "hifigan plain blocks": lambda **more: HiFiGAN(**{**TINY, "paired": False, **more}),
    "bigvgan": lambda **more: HiFiGAN(**{**TINY, "activation": "snake_beta", "anti_aliased": True, **more}),
    "odd kernel": lambda **more: HiFiGAN(**{**TINY, "upsample_rates": (3, 5), "upsample_kernels": (7, 11), **more}),
    "vocos": lambda **more: Vocos(8, 16, 32, 2, 32, 8, **more),
    "vocos refined": lambda **more: Vocos(8, 16, 32, 2, 32, 8, **more, refine=2, polish=1),
}  # fmt: skip
every_net = pytest.mark.parametrize("name", NETS)


def lively(net: Any) -> Any:
    """The net with weights that make a lively sound, so that differences show."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() > 1:
                p.mul_(2)
    return net.eval()


# ---- sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version, parameters, hop", [("v1", 13.936e6, 256), ("v2", 0.9285e6, 256), ("v3", 1.4643e6, 256)]
)
def test_the_published_sizes(version: str, parameters: float, hop: int) -> None:
    net = hifigan(version)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, rel=1e-4)
    assert net.hop_length == hop
    assert net.init_args["width"] == {"v1": 512, "v2": 128, "v3": 256}[version]


def test_no_other_version() -> None:
    with pytest.raises(UserError, match=r"no HiFi-GAN 'v4'; have \['v1', 'v2', 'v3'\]"):
        hifigan("v4")


@every_net
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("frames", [2, 3, 17])
def test_shapes(name: str, center: bool, frames: int) -> None:
    net = NETS[name](center=center)
    x = net(torch.randn(2, 8, frames))
    assert x.shape == (2, 1, (frames - center) * net.hop_length)
    assert x.isfinite().all()
    assert torch.equal(net(torch.zeros(2, 1, 8, frames)), net(torch.zeros(2, 8, frames)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"upsample_kernels": (8,)}, "one kernel a rate"),
        ({"upsample_kernels": (7, 4)}, "kernel 7 does not fit rate 4"),
        ({"width": 18}, "width=18 can't be halved 2 times"),
        ({"block_kernels": (3,)}, "1 block_kernels and 2 lists"),
        ({"block_kernels": (3, 4)}, r"block_kernels \[4\] must be odd"),
        ({"activation": "swish"}, "no activation 'swish'"),
        ({"anti_aliased": True}, "goes with activation=snake"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HiFiGAN(**{**TINY, **arguments})


@every_net
@pytest.mark.parametrize("shape", [(2, 80, 5), (8, 5), (1, 2, 8, 5), (2, 8, 0)])
def test_mels_of_another_spec_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"for a vocoder of \(B, 8, L\)"):
        NETS[name]()(torch.zeros(shape))


# ---- receptive field, chunks, streams ---------------------------------------------------------------------------


def reach(net: Any) -> int:
    """How far the furthest frame is that bears on the samples of the middle one, by autograd."""
    frames = 2 * net.context_frames + 9
    mel = torch.randn(1, 8, frames, requires_grad=True)
    middle, hop = frames // 2, net.hop_length
    wave = net.decode(mel)[..., middle * hop : (middle + 1) * hop]
    (grad,) = torch.autograd.grad(wave.abs().sum(), mel)
    seen = grad.abs().amax(dim=(0, 1)).nonzero().flatten()
    return max(middle - int(seen.min()), int(seen.max()) - middle)


@every_net
@pytest.mark.parametrize("center", [False, True])
def test_the_receptive_field_is_computed(name: str, center: bool) -> None:
    net = lively(NETS[name](center=center))
    assert net.context_frames - 3 <= reach(net) <= net.context_frames


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_the_receptive_field_of_the_published_nets(version: str) -> None:
    net = HiFiGAN(**{**hifigan(version).init_args, "width": 16, "n_mels": 8})
    assert net.context_frames == hifigan(version).context_frames
    assert net.context_frames - 3 <= reach(net) <= net.context_frames


@every_net
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("chunk_frames", [1, 7, 64, 1000])
def test_chunks_make_the_whole(name: str, center: bool, chunk_frames: int) -> None:
    net, mel = lively(NETS[name](center=center)), torch.randn(2, 8, 40 if chunk_frames == 1 else 150)
    with torch.no_grad():
        whole = net(mel)
    assert whole.std() > 1e-3
    pieces = vocode(net, mel, chunk_frames)
    assert pieces.shape == whole.shape
    assert (pieces - whole).abs().max() < 1e-5 * max(1.0, float(whole.abs().max()))


@every_net
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_sounds_shorter_than_the_receptive_field(name: str, frames: int) -> None:
    net, mel = lively(NETS[name]()), torch.randn(1, 8, frames)
    assert torch.allclose(vocode(net, mel, 2), net(mel), atol=1e-5)


@every_net
def test_a_stream_lags_by_its_delay_and_forgets(name: str) -> None:
    net, mel = lively(NETS[name]()), torch.randn(1, 8, 400)
    stream, out, kept = Stream(net), [], 0
    for i in range(0, 400, 10):
        out.append(stream.push(mel[..., i : i + 10]))
        assert sum(w.shape[-1] for w in out) == max(0, i + 10 - stream.delay_frames) * net.hop_length
        assert stream.mel is not None
        kept = max(kept, stream.mel.shape[-1])
    assert kept <= 2 * net.context_frames + 10
    out.append(stream.finish())
    assert torch.allclose(torch.cat(out, dim=-1), net(mel), atol=1e-5)
    with pytest.raises(UserError, match="finished"):
        stream.push(mel)


def test_mistakes_with_streams() -> None:
    net = NETS["vocos"]()
    with pytest.raises(UserError, match="no frames were pushed"):
        Stream(net).finish()
    with pytest.raises(UserError, match="chunk_frames=0"):
        vocode(net, torch.zeros(1, 8, 5), 0)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_chunks_make_the_whole_with_the_published_nets(version: str) -> None:
    net, mel = lively(hifigan(version)), torch.randn(1, 80, 90)
    with torch.no_grad():
        assert (vocode(net, mel, 25) - net(mel)).abs().max() < 1e-4


# ---- weight norm, state -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hifigan", "bigvgan"])
def test_without_weight_norm_it_is_the_same_function(name: str) -> None:
    net, mel = lively(NETS[name]()), torch.randn(2, 8, 20)
    before, plain = net(mel), net.without_weight_norm()
    assert torch.equal(plain(mel), before)
    assert not any("parametrizations" in key for key in plain.state_dict())
    assert torch.equal(net(mel), before)  # which stays as it is, and goes on learning
    net(mel).sum().backward()
    rebuilt = HiFiGAN(**plain.init_args)
    rebuilt.load_state_dict(plain.state_dict())
    assert torch.equal(rebuilt.eval()(mel), before)


@every_net
def test_copies_are_equal_and_independent(name: str) -> None:
    net, mel = NETS[name](), torch.randn(1, 8, 6)
    twin = copy.deepcopy(net)
    assert torch.equal(net(mel), twin(mel))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1)
    assert not torch.equal(net(mel), twin(mel))
    twin.load_state_dict(net.state_dict())
    assert torch.equal(net(mel), twin(mel))
    if isinstance(net, HiFiGAN):
        twin.without_weight_norm()
        net(mel)  # the copy shares no class that taking the norm off would change


@every_net
def test_initial_weights_depend_on_the_seed_alone(name: str) -> None:
    def built(built_under: int, seed: int) -> torch.Tensor:
        torch.manual_seed(built_under)
        net = NETS[name]()
        torch.manual_seed(seed)
        net.reset_parameters()
        return net(torch.ones(1, 8, 5))

    assert torch.equal(built(1, 5), built(2, 5))
    assert not torch.equal(built(1, 5), built(1, 6))


@every_net
def test_gradients_reach_every_weight_and_the_mel(name: str) -> None:
    net = NETS[name]()
    mel = torch.randn(2, 8, 12, requires_grad=True)
    net(mel).square().mean().backward()
    assert mel.grad is not None
    assert (mel.grad.abs().amax(dim=(0, 2)) > 0).all()
    for key, p in net.named_parameters():
        assert p.grad is not None, key
        assert p.grad.abs().max() > 0, key


def test_overwriting_activations_leaves_the_gradient_as_it_is() -> None:
    """Against finite differences, in float64."""
    net = HiFiGAN(**{**TINY, "width": 4}).double()
    mel = torch.randn(1, 8, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, mel)


def test_bf16_works() -> None:
    for name in NETS:
        net, mel = lively(NETS[name]()), torch.randn(1, 8, 12)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            half = net(mel)
        with torch.no_grad():
            full = net(mel)
        assert (half.float() - full).std() < 0.1 * full.std(), name


# ---- snake ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [False, True])
def test_snake_is_its_formula(beta: bool) -> None:
    snake, x = Snake(3, beta), torch.randn(2, 3, 1, 7)
    with torch.no_grad():
        snake.log_alpha.copy_(torch.tensor([0.0, 0.5, -1.0]))
        if snake.log_beta is not None:
            snake.log_beta.copy_(torch.tensor([0.3, 0.0, 1.0]))
    y = snake(x)
    for c in range(3):
        alpha = math.exp(snake.log_alpha[c].item())
        height = math.exp(snake.log_beta[c].item()) if snake.log_beta is not None else alpha
        assert torch.allclose(y[:, c], x[:, c] + (alpha * x[:, c]).sin() ** 2 / height, atol=1e-6)


def test_the_filter_is_a_low_pass_of_unit_gain() -> None:
    h = kaiser_sinc()
    assert h.sum().item() == pytest.approx(1)
    assert torch.allclose(h, h.flip(0))
    response = torch.fft.rfft(h, 1024).abs()
    assert (response[: int(0.08 * 1024)] - 1).abs().max() < 0.01
    assert response[int(0.45 * 1024) :].max() < 0.01


def test_anti_aliasing_lets_tones_pass_in_place() -> None:
    identity = AntiAliased(nn.Identity())
    t = torch.arange(400.0)
    for f in (0.0, 0.03, 0.1, 0.2):
        x = torch.cos(2 * math.pi * f * t + 0.3).view(1, 1, 1, -1)
        assert (identity(x) - x)[..., 20:-20].abs().max() < 0.01
    assert identity(torch.randn(2, 3, 1, 5)).shape == (2, 3, 1, 5)
    assert identity(torch.randn(2, 3, 7)).shape == (2, 3, 7)


def test_anti_aliasing_takes_away_what_would_fold_back() -> None:
    """The square of a tone at .35 holds .7, which folds back to .3; so short a filter takes three quarters of it."""
    x = torch.cos(2 * math.pi * 0.35 * torch.arange(1000.0)).view(1, 1, -1)

    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.square()

    def folded(y: torch.Tensor) -> float:
        return float(torch.fft.rfft(y[..., 100:900])[..., 240].abs())

    assert folded(AntiAliased(Square())(x)) < 0.25 * folded(x.square())


def test_taps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="taps=10"):
        AntiAliased(nn.Identity(), 10)
