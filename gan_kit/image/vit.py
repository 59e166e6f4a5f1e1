"""A pair of vision transformers in pixel space (Dosovitskiy et al. 2021; as GANs: Jiang et al. 2021, Lee et al. 2022).

Plain blocks of today: RMSNorm ahead of attention and of a gated MLP, normalised queries and keys, rotary or learned
positions. In G the latent vector steers every block (AdaLN, Peebles & Xie 2023, section 3.2); there is no convolution
and no batch statistic in either, so any penalty may be used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gan_kit.nn import ClassHead, Recorded, embedding
from gan_kit.types import Critique, UserError

__all__ = ["ViTDiscriminator", "ViTGenerator"]

ATTENTION = ("auto", "fused", "math")


def rotary(side: int, dims: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (side², dims / 2) each, of 2-D rotary positions: half of the pairs turn with the row, half with
    the column (Su et al. 2021, section 3.4; in two dimensions Heo et al. 2024)."""
    rates = 100.0 ** -(torch.arange(dims // 4) / (dims // 4))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = torch.cat([row.reshape(-1, 1) * rates, column.reshape(-1, 1) * rates], dim=1)
    return angles.cos(), angles.sin()


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (..., N, dims), whose pairs (i, i + dims/2) are turned by their positions' angles."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Self-attention with RMS-normalised queries and keys (Dehghani et al. 2023, section 2); h: (B, N, width)"""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(width // heads), nn.RMSNorm(width // heads)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, h: Tensor, turns: tuple[Tensor, Tensor] | None) -> Tensor:
        q, k, v = self.to_qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, N, dims)
        q, k = self.norm_q(q), self.norm_k(k)
        if turns is not None:
            q, k = turned(q, *turns), turned(k, *turns)
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """ "gelu": W₂ gelu(W₁ h), 4 times as wide; "swiglu": W₂ (silu(W₁ h) ⊙ W₃ h), of as many weights (Shazeer 2020)"""

    def __init__(self, width: int, kind: str):
        super().__init__()
        inner = 4 * width if kind == "gelu" else 8 * math.ceil(width / 3)
        self.gated = kind == "swiglu"
        self.inner = nn.Linear(width, 2 * inner if self.gated else inner, bias=not self.gated)
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        if not self.gated:
            return self.out(F.gelu(self.inner(h)))
        gate, value = self.inner(h).chunk(2, dim=-1)
        return self.out(F.silu(gate) * value)


class Block(nn.Module):
    """h + attention(norm h), then h + mlp(norm h); with `steer_dim` a vector scales, shifts and gates both branches.

    h: (B, N, width), w: (B, steer_dim) or None -> (B, N, width)
    """

    def __init__(self, width: int, heads: int, mlp: str, steer_dim: int = 0):
        super().__init__()
        self.norm_1, self.norm_2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention, self.mlp = Attention(width, heads), MLP(width, mlp)
        self.steer = nn.Linear(steer_dim, 6 * width) if steer_dim else None

    def forward(self, h: Tensor, turns: tuple[Tensor, Tensor] | None, w: Tensor | None = None) -> Tensor:
        if self.steer is None:
            h = h + self.attention(self.norm_1(h), turns)
            return h + self.mlp(self.norm_2(h))
        scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = self.steer(w)[:, None].chunk(6, dim=-1)
        h = h + (1 + gate_1) * self.attention(self.norm_1(h) * (1 + scale_1) + shift_1, turns)
        return h + (1 + gate_2) * self.mlp(self.norm_2(h) * (1 + scale_2) + shift_2)


class _ViT(nn.Module):
    """What both nets share: the grid of tokens, their positions, the blocks, the initialisation."""

    def __init__(
        self,
        size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        positions: str,
        mlp: str,
        attention: str,
        steer_dim: int = 0,
    ):
        super().__init__()
        if patch < 1 or size % patch:
            raise UserError(f"patch={patch} does not divide {size}x{size} pictures; use 2, 4 or 8")
        if heads < 1 or width % heads or (width // heads) % 4:
            raise UserError(f"width={width} does not make heads={heads} of a multiple of 4; set width=64 heads=4, say")
        if depth < 1:
            raise UserError(f"depth={depth} must be at least 1 block")
        for name, value, have in (
            ("positions", positions, ("rotary", "learned")),
            ("mlp", mlp, ("swiglu", "gelu")),
            ("attention", attention, ATTENTION),
        ):
            if value not in have:
                raise UserError(f"no {name}={value!r}; have {', '.join(have)}")
        self.side, self.patch, self.depth, self.attention = size // patch, patch, depth, attention
        self.blocks = nn.ModuleList(Block(width, heads, mlp, steer_dim) for _ in range(depth))
        self.positions = nn.Parameter(torch.empty(self.side**2, width)) if positions == "learned" else None
        if positions == "rotary":
            cos, sin = rotary(self.side, width // heads)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def _reset(self) -> None:
        """Linear weights of std 1/√fan_in; those that end a branch smaller by √(2 depth) (GPT-2), so that the sum of
        all branches is about as large as what enters the first; steering begins at none."""
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=m.in_features**-0.5)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, nn.RMSNorm):
                nn.init.ones_(m.weight)
        for block in self.blocks:
            assert isinstance(block, Block)
            for out in (block.attention.out, block.mlp.out):
                nn.init.normal_(out.weight, std=(out.in_features * 2 * self.depth) ** -0.5)
            if block.steer is not None:
                nn.init.normal_(block.steer.weight, std=0.1 * block.steer.in_features**-0.5)
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.5)

    def _through(self, h: Tensor, w: Tensor | None = None) -> Tensor:
        if self.positions is not None:
            h = h + self.positions
        turns = (self.cos, self.sin) if self.positions is None else None
        for block in self.blocks:
            h = block(h, turns) if w is None else block(h, turns, w)
        return h

    @contextmanager
    def _kernels(self, given: Tensor) -> Iterator[None]:
        """Fused attention has no second derivative on most devices: where a penalty may take one (the net's input and
        its weights both take gradients), attention is written out, unless `attention` says otherwise."""
        twice = torch.is_grad_enabled() and given.requires_grad and next(self.blocks.parameters()).requires_grad
        if self.attention == "math" or (self.attention == "auto" and twice):
            with sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield


class ViTGenerator(Recorded, _ViT):
    """z: (B, z_dim), y: (B,) class indices, (B, vector_dim) or None -> (B, channels, size, size), unbounded unless
    tanh.

    z, and the class embedding beside it, become w by a two-layer MLP; tokens begin as a learned picture whose
    features w weighs, and w steers each block.

    patch: side of the square of pixels that a token becomes; (size / patch)² tokens
    width, depth, heads: of the blocks; width / heads a multiple of 4
    positions: "rotary" or "learned"; mlp: "swiglu" or "gelu"
    null_class: embed one class more, for what is not labelled
    attention: "auto" writes attention out where a second derivative may be taken, "fused" never, "math" always
    """

    def __init__(
        self,
        size: int = 32,
        channels: int = 3,
        num_classes: int = 0,
        z_dim: int = 64,
        embed_dim: int = 64,
        patch: int = 2,
        width: int = 384,
        depth: int = 8,
        heads: int = 6,
        w_dim: int = 256,
        positions: str = "rotary",
        mlp: str = "swiglu",
        tanh: bool = False,
        null_class: bool = False,
        attention: str = "auto",
        vector_dim: int = 0,
    ):
        super().__init__(size, patch, width, depth, heads, positions, mlp, attention, w_dim)
        self.z_dim, self.num_classes, self.null_class, self.tanh = z_dim, num_classes, null_class, tanh
        self.vector_dim = vector_dim
        self.embed = embedding(num_classes, embed_dim, null_class, vector_dim)
        self.to_w = nn.Sequential(
            nn.Linear(z_dim + (embed_dim if self.embed else 0), w_dim), nn.SiLU(), nn.Linear(w_dim, w_dim), nn.SiLU()
        )
        self.weigh = nn.Linear(w_dim, width)
        self.canvas = nn.Parameter(torch.empty(self.side**2, width))
        self.norm = nn.RMSNorm(width)
        self.to_pixels = nn.Linear(width, channels * patch**2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self._reset()
        if self.embed is not None:
            self.embed.reset_parameters()
        nn.init.normal_(self.canvas)
        nn.init.normal_(self.weigh.weight, std=(2 / self.weigh.in_features) ** 0.5)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(y, len(z))], dim=1)
        with self._kernels(z):
            w = self.to_w(z)
            h = self._through((1 + self.weigh(w))[:, None] * self.canvas.to(w.dtype), w)
        patches = self.to_pixels(self.norm(h)).transpose(1, 2)  # (B, C p², N)
        x = F.pixel_shuffle(patches.unflatten(2, (self.side, self.side)), self.patch)
        return x.tanh() if self.tanh else x


class ViTDiscriminator(Recorded, _ViT):
    """x: (B, channels, size, size), y: (B,) or None -> Critique with one (B,) logit: ViT on patches, mean of tokens.

    conditioning: how classes enter, a kind of `gan_kit.nn.ClassHead`; all else as in `ViTGenerator`
    """

    def __init__(
        self,
        size: int = 32,
        channels: int = 3,
        num_classes: int = 0,
        patch: int = 2,
        width: int = 384,
        depth: int = 8,
        heads: int = 6,
        positions: str = "rotary",
        mlp: str = "swiglu",
        conditioning: str = "projection",
        null_class: bool = False,
        attention: str = "auto",
        vector_dim: int = 0,
    ):
        super().__init__(size, patch, width, depth, heads, positions, mlp, attention)
        self.num_classes, self.null_class, self.vector_dim = num_classes, null_class, vector_dim
        self.from_pixels = nn.Linear(channels * patch**2, width)
        self.norm = nn.RMSNorm(width)
        self.head = ClassHead(width, num_classes, conditioning, null_class=null_class, vector_dim=vector_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self._reset()
        self.head.reset_parameters()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Critique:
        with self._kernels(x):
            patches = F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)  # (B, N, C p²)
            h = self.norm(self._through(self.from_pixels(patches))).mean(1)
        logit, aux = self.head(h, y)
        return Critique([logit], [[h]], aux)
