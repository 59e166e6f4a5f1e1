"""Path length: closed forms of linear generators, one state whatever the ranks and micro-batches, bitwise resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from doors import run
from torch import Tensor, nn

from gan_kit.adversarial import GAN, NonSaturating, PathLength
from gan_kit.image import StyleGAN2Discriminator, StyleGAN2Generator
from gan_kit.runs import checkpoints
from gan_kit.types import UserError
from gan_kit.vector import MLPDiscriminator, MLPGenerator

LAYERS, DIM = 3, 4


class LinearStyles(nn.Module):
    """x = Σ_layers A w_layer, (B, 1, 2, 3): ‖Jᵀv‖ = ‖Aᵀv‖ in each layer, so that their mean is it too."""

    z_dim = DIM
    takes_noise = False

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(6, DIM))

    def mapping(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z[:, None].expand(-1, LAYERS, -1)

    def synthesis(self, w: Tensor, noise: Any = None) -> Tensor:
        return (w.sum(1) @ self.matrix.t()).view(-1, 1, 2, 3)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.synthesis(self.mapping(z, y))


def gan_of(generator: nn.Module, term: PathLength, **more: Any) -> GAN:
    critic = nn.Sequential(nn.Flatten(), MLPDiscriminator(6))
    critic.forward = lambda x, y=None: critic[1](critic[0](x), y)  # type: ignore[method-assign]
    return GAN(generator, critic, NonSaturating(), torch.optim.Adam, torch.optim.Adam, terms={"pl": term}, **more)


def lengths(gan: GAN, matrix: Tensor, batch: int) -> Tensor:
    """‖Aᵀv‖ of each even row, of the v that the step's G half draws: its calls are z (0) and v (1)."""
    noise = gan.noise(1, batch)
    noise.calls = 1
    v = noise.randn(1, 2, 3)[::2].flatten(1) / 6**0.5
    return (v @ matrix).norm(dim=1)


def test_closed_form_of_a_linear_generator() -> None:
    g, term = LinearStyles(), PathLength(weight=2.0, every=4, decay=0.01)
    gan = gan_of(g, term)
    real = torch.zeros(8, 1, 2, 3)
    expected = lengths(gan, g.matrix, 8)
    total = gan.g_loss(real, None, gan.noise(1, 8))
    penalty = 4 * 2.0 * expected.square().mean()  # the running mean begins at 0
    torch.testing.assert_close(total - gan.scalars["loss_g"], penalty, rtol=1e-4, atol=1e-4)
    gan.settle(8)
    torch.testing.assert_close(gan.scalars["term_pl_length"], expected.mean().detach())
    torch.testing.assert_close(gan.scalars["term_pl_average"], 0.01 * expected.mean().detach())
    gan.step = 4
    mean, expected = term.average.clone(), lengths(gan, g.matrix, 8)
    total = gan.g_loss(real, None, gan.noise(1, 8))
    torch.testing.assert_close(
        total - gan.scalars["loss_g"], 8 * (expected - mean).square().mean(), rtol=1e-4, atol=1e-4
    )


def test_it_is_lazy() -> None:
    gan = gan_of(LinearStyles(), PathLength(every=4))
    for step in range(9):
        gan.step, gan.scalars = step, {}
        gan.g_loss(torch.zeros(4, 1, 2, 3), None, gan.noise(1, 4))
        assert ("term_pl" in gan.scalars) == (step % 4 == 0)
        before = gan.terms["pl"].average.clone()  # type: ignore[attr-defined]
        gan.settle(4)
        assert torch.equal(before, gan.terms["pl"].average) == (step % 4 != 0)  # type: ignore[attr-defined]


def test_it_makes_lengths_equal() -> None:
    """Descending on it alone takes x = a(w) to lengths that vary less, about their mean."""
    torch.manual_seed(2)
    term = PathLength(weight=1.0, every=1, decay=0.1, shrink=1)
    g = StyleGAN2Generator(8, 1, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=16, mixing=0)
    d = StyleGAN2Discriminator(8, 1, channel_base=128, channel_max=16)
    gan = GAN(g, d, NonSaturating(), torch.optim.Adam, torch.optim.Adam, terms={"pl": term})
    adam = torch.optim.Adam(g.parameters(), 3e-3)
    seen = []
    for gan.step in range(60):
        gan.g_loss(torch.zeros(16, 1, 8, 8), None, gan.noise(1, 16))
        adam.zero_grad()
        loss = gan.g_loss(torch.zeros(16, 1, 8, 8), None, gan.noise(1, 16)) - gan.scalars["loss_g"]
        loss.backward()
        adam.step()
        gan.settle(16)
        seen.append((gan.scalars["term_pl"] / term.length.square()).item())
    assert seen[-1] < 0.2 * seen[0]


def test_one_state_and_gradient_for_ranks_and_micro_batches() -> None:
    """Halves on two ranks, each with a quarter at a time, and the whole batch on one."""

    def half(g: nn.Module, term: PathLength, parts: list[tuple[int, int]]) -> Tensor:
        gan = gan_of(g, term)
        gan.step = 4
        noise = gan.noise(1, 16)
        loss = sum(gan.g_loss(torch.zeros(b - a, 1, 2, 3), None, noise.part(a, b)) * ((b - a) / 16) for a, b in parts)
        (slope,) = torch.autograd.grad(loss, g.matrix)  # type: ignore[arg-type]
        return slope

    g = LinearStyles()
    torch.manual_seed(3)
    whole, ranks = PathLength(), [PathLength(), PathLength()]
    for term in (whole, *ranks):
        term.average = torch.tensor(0.3)
    torch.manual_seed(4)
    expected = half(g, whole, [(0, 16)])
    torch.manual_seed(4)
    first = half(g, ranks[0], [(0, 4), (4, 8)])
    torch.manual_seed(4)
    second = half(g, ranks[1], [(8, 12), (12, 16)])
    torch.testing.assert_close(first + second, expected, rtol=1e-4, atol=1e-5)
    whole.settle(lambda x: x, 16)
    shared = (ranks[0].sums + ranks[1].sums) / 2
    for term in ranks:
        term.settle(lambda _: shared, 16)
        torch.testing.assert_close(term.average, whole.average)
    assert torch.equal(ranks[0].average, ranks[1].average)


def test_its_state_is_saved() -> None:
    term, other = PathLength(), PathLength()
    term.average, term.length = torch.tensor(1.5), torch.tensor(2.5)
    other.load_state_dict(term.state_dict())
    assert (other.average, other.length) == (1.5, 2.5)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: PathLength(decay=0.0), "decay=0.0"),
        (lambda: PathLength(shrink=0), "shrink=0"),
        (lambda: PathLength(every=0), "every=0"),
        (lambda: gan_of(MLPGenerator(6), PathLength()), "MLPGenerator does not have"),
    ],
)
def test_mistakes_are_told(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def newest(folder: Path) -> dict[str, Any]:
    saved = torch.load(checkpoints(folder)[-1], weights_only=True)
    return {k: saved[k] for k in ("state_dict", "optimizer_states", "gan")}


def flat(state: Any) -> list[Any]:
    if isinstance(state, dict):
        return [x for k in sorted(state, key=str) for x in (k, *flat(state[k]))]
    return [x for part in state for x in flat(part)] if isinstance(state, list | tuple) else [state]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [5, 8])
def test_a_run_resumes_bitwise(stop: int, tmp_path: Path) -> None:
    """StyleGAN2 with path length every 4, R1 every 3, mixing and noise: 12 steps whole, and stopped at 5 or 8."""
    recipe = [
        "+experiment=image/digits_stylegan2", "image_size=8", "data.batch_size=8", "objective.penalties.r1.every=3",
        "generator.channel_max=8", "discriminator.channel_max=8", "logger=none", "trainer=cpu", "sample_every=1000",
        "schedule_samples=96",
    ]  # fmt: skip
    for name, budgets in (("whole", [96]), ("cut", [8 * stop, 96])):
        settings = [*recipe, f"budget_samples={budgets[0]}", f"paths.output_dir={tmp_path / name}"]
        for budget in budgets:
            done = run("train", *settings, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            settings = [f"resume={tmp_path / name}", f"budget_samples={budgets[-1]}"]
            assert newest(tmp_path / name)["gan"]["samples_seen"] == budget
    whole, cut = (newest(tmp_path / name) for name in ("whole", "cut"))
    assert whole["gan"]["adaptive"]["term_path_length"]["average"] > 0
    for a, b in zip(flat(whole), flat(cut), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
