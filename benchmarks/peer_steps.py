"""Public implementations as `peers.py` runs them: imported from where the developer has put them, never copied.

Each function takes the folder of a checkout and gives the nets of its authors with an endless iterator of their
training step on a CPU, in fp32, as their training script takes it: its order of G and D, what it freezes and draws
anew, its penalties, optimisers and averages. Where the authors' step can be called, it is (mimicry, R3GAN); else it is
said again here in few lines, around their nets and losses. What does not belong to a step is left out in their favour:
loading data, logging, schedules of the learning rate. Operators that they wrote for a GPU run as the fallback to plain
PyTorch that they come with.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import importlib.util
import itertools
import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torch.utils.cpp_extension
from packaging.version import parse
from torch import Tensor, nn
from torch.optim import Adam

# modules that steps have no use for, nor need to be installed: what is imported from them by name
STAND_INS: dict[str, dict[str, Any]] = {
    "seaborn": {},
    "wandb": {},
    "tensorboardX": {},
    "kornia": {},
    "kornia.filters": {"get_gaussian_kernel2d": None, "filter2d": None},
    "pkg_resources": {"parse_version": parse},  # setuptools has it no more
}
CLASSES = 10


class Side(NamedTuple):
    """steps: each `next` is one optimiser step of D, and one of G where that is due"""

    generator: nn.Module
    discriminator: nn.Module
    steps: Iterator[None]


@contextlib.contextmanager
def importing(folder: Path, bare: str | None = None) -> Iterator[None]:
    """Within the block modules are found in `folder`; behind it their names are free for the next checkout's.

    bare: a package whose own __init__ is left out, with all that it imports
    """
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder; give the top folder of a checkout")
    had = set(sys.modules)
    for name in [name for name in STAND_INS if importlib.util.find_spec(name.split(".")[0]) is None]:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(STAND_INS[name])
    if bare:
        package = sys.modules[bare] = ModuleType(bare)
        package.__path__ = [str(folder / bare)]
    compiler = torch.utils.cpp_extension.load
    torch.utils.cpp_extension.load = lambda *_, **__: None  # operators for a GPU, which nothing here calls
    path = list(sys.path)
    # without this file's own folder: StudioGAN's `models` is a folder without __init__, which any models.py hides
    sys.path[:] = [str(folder), *(place for place in path if Path(place).resolve() != Path(__file__).resolve().parent)]
    try:
        yield
    finally:
        sys.path[:] = path
        torch.utils.cpp_extension.load = compiler
        for name in set(sys.modules) - had:
            module = sys.modules[name]
            places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", [])]
            if name in STAND_INS or any(Path(p).is_relative_to(folder) for p in places if p):
                del sys.modules[name]


def classes_of(script: Path, **variables: Any) -> dict[str, Any]:
    """The imports, classes and functions of a script that would train if it were imported, with these globals."""
    wanted = ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef
    tree = ast.parse(script.read_text())
    tree.body = [node for node in tree.body if isinstance(node, wanted)]
    names = dict(variables, __name__=script.stem)
    exec(compile(tree, str(script), "exec"), names)
    return names


def reals(batch: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches ready for use, some few again and again."""
    few = [(torch.rand(batch, 3, size, size) * 2 - 1, torch.randint(CLASSES, (batch,))) for _ in range(4)]
    return itertools.cycle(few)


def adam(net: nn.Module, lr: float = 2e-4, betas: tuple[float, float] = (0.5, 0.999), eps: float = 1e-8) -> Adam:
    return Adam(net.parameters(), lr=lr, betas=betas, eps=eps)


def examples_dcgan(folder: Path, batch: int, size: int) -> Side:
    """pytorch/examples, dcgan/main.py: G's step takes D's fakes again, D is not frozen for it."""
    found = classes_of(folder / "dcgan" / "main.py", nz=100, ngf=64, ndf=64, nc=3)
    G, D = found["Generator"](1), found["Discriminator"](1)
    G.apply(found["weights_init"]), D.apply(found["weights_init"])

    def steps() -> Iterator[None]:
        opt_g, opt_d, criterion, data = adam(G), adam(D), nn.BCELoss(), reals(batch, size)
        ones, zeros = torch.ones(batch), torch.zeros(batch)
        while True:
            D.zero_grad()
            criterion(D(next(data)[0]), ones).backward()
            fake = G(torch.randn(batch, 100, 1, 1))
            criterion(D(fake.detach()), zeros).backward()
            opt_d.step()
            G.zero_grad()
            criterion(D(fake), ones).backward()
            opt_g.step()
            yield

    return Side(G, D, steps())


def lynnho_dcgan(folder: Path, batch: int, size: int) -> Side:
    """LynnHo/DCGAN-LSGAN-WGAN-GP-DRAGAN-Pytorch, train.py: D is not frozen for G's step."""
    with importing(folder):
        module = importlib.import_module("module")
        d_loss, g_loss = importlib.import_module("torchprob").get_adversarial_losses_fn("gan")
    doublings = int(math.log2(size)) - 2
    G = module.ConvGenerator(100, 3, n_upsamplings=doublings)
    D = module.ConvDiscriminator(3, n_downsamplings=doublings)

    def steps() -> Iterator[None]:
        opt_g, opt_d = adam(G), adam(D)
        for real, _ in reals(batch, size):
            fake = G(torch.randn(batch, 100, 1, 1)).detach()
            loss = sum(d_loss(D(real), D(fake)))
            D.zero_grad()
            loss.backward()
            opt_d.step()
            loss = g_loss(D(G(torch.randn(batch, 100, 1, 1))))
            G.zero_grad()
            loss.backward()
            opt_g.step()
            yield

    return Side(G, D, steps())


def mimicry_sngan(folder: Path, batch: int, size: int) -> Side:
    """kwotsin/mimicry: its `train_step` of either net, five of D for one of G."""
    with importing(folder, bare="torch_mimicry"):
        module = importlib.import_module(f"torch_mimicry.nets.sngan.sngan_{size}")
    G, D = getattr(module, f"SNGANGenerator{size}")(), getattr(module, f"SNGANDiscriminator{size}")()

    def steps() -> Iterator[None]:
        opt_g, opt_d = adam(G, betas=(0.0, 0.9)), adam(D, betas=(0.0, 0.9))
        log = SimpleNamespace(add_metric=lambda *_, **__: None)
        for i, both in enumerate(reals(batch, size)):
            D.train_step(both, netG=G, optD=opt_d, log_data=log)
            if i % 5 == 4:
                G.train_step(both, netD=D, optG=opt_g, log_data=log)
            yield

    return Side(G, D, steps())


def studiogan(folder: Path, config: str, batch: int) -> tuple[SimpleNamespace, Callable[..., tuple[Tensor, ...]]]:
    """PyTorch-StudioGAN's nets of configs/CIFAR10/{config}.yaml, its losses, optimisers and average; ema may be None"""
    with importing(folder / "src"):
        settings = importlib.import_module("config")
        path = folder / "src" / "configs" / "CIFAR10" / f"{config}.yaml"
        settings.Configurations.check_compatability = lambda self: None  # it wants a GPU
        cfgs = settings.Configurations(str(path))
        cfgs.OPTIMIZATION.batch_size = batch
        cfgs.RUN.mixed_precision = cfgs.RUN.distributed_data_parallel = cfgs.RUN.synchronized_bn = False
        cfgs.define_modules(), cfgs.define_losses()
        model = importlib.import_module("models.model")
        parts = (cfgs.DATA, cfgs.OPTIMIZATION, cfgs.MODEL, cfgs.STYLEGAN, cfgs.MODULES, cfgs.RUN)
        with contextlib.redirect_stdout(None):
            G, _, _, D, _, _, _, ema = model.load_generator_discriminator(*parts, device="cpu", logger=None)
        cfgs.define_optimizer(G, D)
        r1 = importlib.import_module("utils.losses").stylegan_cal_r1_reg
    kit = SimpleNamespace(G=G, D=D, ema=ema, r1=r1, d_loss=cfgs.LOSS.d_loss, g_loss=cfgs.LOSS.g_loss)
    kit.opt_g, kit.opt_d = cfgs.OPTIMIZATION.g_optimizer, cfgs.OPTIMIZATION.d_optimizer
    one_hot = cfgs.MODEL.backbone == "stylegan2"

    def fakes(**more: Any) -> tuple[Tensor, Tensor]:
        y = torch.randint(CLASSES, (batch,))
        z = torch.randn(batch, cfgs.MODEL.z_dim)
        return G(z, F.one_hot(y, CLASSES) if one_hot else y, **more), y

    return kit, fakes


def studiogan_sngan(folder: Path, batch: int, size: int) -> Side:
    """PyTorch-StudioGAN, SNGAN.yaml: conditional batch norm and projection, five steps of D for one of G."""
    kit, fakes = studiogan(folder, "SNGAN", batch)

    def steps() -> Iterator[None]:
        for i, (real, y) in enumerate(reals(batch, size)):
            kit.G.requires_grad_(False), kit.D.requires_grad_(True)
            kit.opt_d.zero_grad()
            fake, of = fakes()
            kit.d_loss(kit.D(real, y)["adv_output"], kit.D(fake, of)["adv_output"], DDP=False).backward()
            kit.opt_d.step()
            if i % 5 == 4:
                kit.G.requires_grad_(True), kit.D.requires_grad_(False)
                kit.opt_g.zero_grad()
                kit.g_loss(kit.D(*fakes())["adv_output"], DDP=False).backward()
                kit.opt_g.step()
            yield

    return Side(kit.G, kit.D, steps())


def studiogan_stylegan2(folder: Path, batch: int, size: int) -> Side:
    """PyTorch-StudioGAN, StyleGAN2-Uncond.yaml: G before D, each 16th step R1 by a step of its own."""
    kit, fakes = studiogan(folder, "StyleGAN2-Uncond", batch)

    def steps() -> Iterator[None]:
        for i, (real, y) in enumerate(reals(batch, size)):
            kit.G.requires_grad_(True), kit.D.requires_grad_(False)
            kit.opt_g.zero_grad()
            kit.g_loss(kit.D(*fakes())["adv_output"], DDP=False).backward()
            kit.opt_g.step()
            kit.G.requires_grad_(False), kit.D.requires_grad_(True)
            kit.opt_d.zero_grad()
            fake, of = fakes(update_emas=True)
            kit.d_loss(kit.D(real, y)["adv_output"], kit.D(fake, of)["adv_output"], DDP=False).backward()
            kit.opt_d.step()
            if i % 16 == 0:
                kit.opt_d.zero_grad()
                real = real.clone().requires_grad_()
                (16 * 0.01 * kit.r1(kit.D(real, y)["adv_output"], real)).backward()
                kit.opt_d.step()
            kit.ema.update(i)
            yield

    return Side(kit.G, kit.D, steps())


def rosinality_stylegan2(folder: Path, batch: int, size: int) -> Side:
    """rosinality/stylegan2-pytorch, train.py: R1 each 16th step, path length each 4th of half a batch, each by a step
    of its own; two styles mixed in .9 of the batches."""
    with importing(folder):
        model = importlib.import_module("model")
    G, G_ema, D = model.Generator(size, 512, 8), model.Generator(size, 512, 8).eval(), model.Discriminator(size)
    G_ema.load_state_dict(G.state_dict())

    def styles(n: int) -> list[Tensor]:
        return [torch.randn(n, 512) for _ in range(1 + (random.random() < 0.9))]

    def steps() -> Iterator[None]:
        opt_g = adam(G, 2e-3 * 4 / 5, (0.0, 0.99 ** (4 / 5)))
        opt_d = adam(D, 2e-3 * 16 / 17, (0.0, 0.99 ** (16 / 17)))
        average, length = dict(G_ema.named_parameters()), torch.zeros(())
        for i, (real, _) in enumerate(reals(batch, size)):
            G.requires_grad_(False), D.requires_grad_(True)
            fake, _ = G(styles(batch))
            loss = F.softplus(D(fake)).mean() + F.softplus(-D(real)).mean()
            D.zero_grad()
            loss.backward()
            opt_d.step()
            if i % 16 == 0:
                real = real.clone().requires_grad_()
                (slope,) = torch.autograd.grad(D(real).sum(), real, create_graph=True)
                D.zero_grad()
                (10 / 2 * 16 * slope.square().flatten(1).sum(1).mean()).backward()
                opt_d.step()
            G.requires_grad_(True), D.requires_grad_(False)
            fake, _ = G(styles(batch))
            G.zero_grad()
            F.softplus(-D(fake)).mean().backward()
            opt_g.step()
            if i % 4 == 0:
                fake, w = G(styles(max(batch // 2, 1)), return_latents=True)
                (slope,) = torch.autograd.grad((fake * torch.randn_like(fake) / size).sum(), w, create_graph=True)
                lengths = slope.square().sum(2).mean(1).sqrt()
                mean = length + 0.01 * (lengths.mean() - length)
                G.zero_grad()
                (2 * 4 * (lengths - mean).square().mean()).backward()
                opt_g.step()
                length = mean.detach()
            for name, p in G.named_parameters():
                average[name].data.mul_(0.998).add_(p.data, alpha=0.002)
            yield

    return Side(G, D, steps())


def r3gan(folder: Path, batch: int, size: int, width: int) -> Side:
    """brownvc/R3GAN: its two functions that make gradients, D before G, R1 and R2 on every step."""
    with importing(folder):
        nets = importlib.import_module("R3GAN.Networks")
        training = importlib.import_module("R3GAN.Trainer").AdversarialTraining
    stages = int(math.log2(size)) - 1
    shape = {"CardinalityPerStage": [width // 8] * stages, "BlocksPerStage": [2] * stages, "ExpansionFactor": 2}
    G = nets.Generator(64, [width] * stages, **shape).requires_grad_(False)
    D = nets.Discriminator([width] * stages, **shape).requires_grad_(False)
    G_ema = copy.deepcopy(G)

    def steps() -> Iterator[None]:
        opt_g, opt_d, both = adam(G, betas=(0.0, 0.9)), adam(D, betas=(0.0, 0.9)), training(G, D)
        for real, _ in reals(batch, size):
            for net, opt in ((D, opt_d), (G, opt_g)):
                opt.zero_grad(set_to_none=True)
                net.requires_grad_(True)
                z = torch.randn(batch, 64)
                if net is D:
                    both.AccumulateDiscriminatorGradients(z, real, None, 0.05)
                else:
                    both.AccumulateGeneratorGradients(z, real, None)
                net.requires_grad_(False)
                opt.step()
            for average, p in zip(G_ema.parameters(), G.parameters(), strict=True):
                average.copy_(p.lerp(average, 0.998))
            yield

    return Side(G, D, steps())
