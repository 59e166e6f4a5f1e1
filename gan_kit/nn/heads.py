"""The end of a discriminator: features of a sample in, one logit out, conditioned on a class or a vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.nn.spectral import raw_weight, restart_spectral, spectral_norm
from gan_kit.types import Aux, UserError, missing

__all__ = ["ClassHead"]

KINDS = ("none", "projection", "concat", "auxiliary", "d2d-ce", "k+1")


class ClassHead(nn.Module):
    """h: (B, width), y: (B,) class indices, (B, vector_dim) floats or None -> (logit (B,), Aux or None)

    kind: "none": y is not looked at
        "projection": ψ(h) + ⟨e(y), h⟩ (Miyato & Koyama 2018, equation 3)
        "concat": a layer with e(y) beside h, then ψ (Mirza & Osindero 2014)
        "auxiliary": ψ(h), and class logits in aux (AC-GAN, Odena et al. 2017); train them with
            `gan_kit.adversarial.ClassPenalty` and `ClassTerm`
        "d2d-ce": ψ(h), and in aux the projection of h to the unit sphere with one proxy a class (ReACGAN, Kang et
            al. 2021, section 3); trained in the same way
        "k+1": logit log Σ exp of the class logits in aux: a class more, "generated", whose own logit is 0 (Salimans et
            al. 2016, section 5); trained in the same way, and on samples without a label by the adversarial loss alone
    num_classes: 0 (and vector_dim 0) is unconditional, whatever the kind
    embed_dim: of e(y) for projection (0: width; else ⟨e(y), P h⟩ with a linear map P), concat and d2d-ce (0: 128)
    spectral: spectral normalisation (Miyato et al. 2018) of all its layers
    null_class: one more class, number num_classes, for samples without a label: y = num_classes, y < 0 and y = None;
        of vectors a learned e for rows of NaN and y = None
    vector_dim: y is a vector that e maps linearly (projection and concat), such as an embedding of a text

    An objective with `gan_kit.adversarial.SAN` sets `sliced`: the logit is then ⟨ω, h⟩ + b with ω of length 1, its
    gradients reach h and b, and `aux.direction` is the same number with gradients for ω.
    Raises UserError for an unknown kind, and for labels that are missing.
    """

    def __init__(
        self,
        width: int,
        num_classes: int = 0,
        kind: str = "projection",
        embed_dim: int = 0,
        spectral: bool = False,
        null_class: bool = False,
        vector_dim: int = 0,
    ):
        super().__init__()
        if kind not in KINDS:
            raise UserError(f"no conditioning={kind!r}; have {', '.join(KINDS)}")
        if num_classes and vector_dim:
            raise UserError(
                f"num_classes={num_classes} and vector_dim={vector_dim}: a head takes one of them, set one 0"
            )
        if vector_dim and kind not in ("none", "projection", "concat"):
            raise UserError(
                f"conditioning={kind!r} needs classes, not vectors; with vector_dim use projection or concat"
            )
        self.kind = kind if num_classes or vector_dim else "none"
        self.num_classes, self.vector_dim = num_classes, vector_dim
        self.null_class, self.spectral = bool(null_class and (num_classes or vector_dim)), spectral
        self.sliced = False
        dim = embed_dim or (width if self.kind == "projection" else 128)
        if self.kind == "concat":
            self.joined = nn.Linear(width + dim, width)
        if self.kind != "k+1":
            self.psi = nn.Linear(width, 1)
        if self.kind in ("projection", "concat"):
            rows = num_classes + self.null_class
            self.embed = nn.Linear(vector_dim, dim, bias=False) if vector_dim else nn.Embedding(rows, dim)
            if vector_dim and self.null_class:
                self.null = nn.Parameter(torch.zeros(dim))
            if self.kind == "projection" and dim != width:
                self.map = nn.Linear(width, dim, bias=False)
        elif self.kind in ("auxiliary", "k+1"):
            self.classes = nn.Linear(width, num_classes)
        elif self.kind == "d2d-ce":
            self.sphere = nn.Linear(width, dim)
            self.proxies = nn.Embedding(num_classes, dim)
        self.reset_parameters()
        for layer in list(self.children()):
            spectral_norm(layer, spectral)

    def reset_parameters(self) -> None:
        """Layers uniform by their fan-in as torch's, embeddings N(0, 1 / dim), biases 0."""
        if hasattr(self, "null"):
            nn.init.zeros_(self.null)
        for name, layer in self.named_children():
            weight = raw_weight(layer)
            if isinstance(layer, nn.Embedding):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            elif name == "embed":  # of vectors: a one-hot one is as a class
                nn.init.normal_(weight, std=weight.shape[0] ** -0.5)
            else:
                nn.init.kaiming_uniform_(weight, a=5**0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        restart_spectral(self)

    def forward(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Aux | None]:
        aux = None
        if self.kind == "k+1":
            logits = self.classes(h)
            return logits.logsumexp(1), Aux(logits=logits)
        if self.kind == "auxiliary":
            aux = Aux(logits=self.classes(h))
        elif self.kind == "d2d-ce":
            # proxies carry no spectral norm's scale: both sides are of length 1
            aux = Aux(embedding=F.normalize(self.sphere(h), dim=1), proxies=F.normalize(self.proxies.weight, dim=1))
        if self.kind == "concat":
            h = F.leaky_relu(self.joined(torch.cat([h, self.embedded(y, len(h))], 1)), 0.2)
        if self.sliced:
            omega = self.psi.weight + self.lift(y, len(h)) if self.kind == "projection" else self.psi.weight
            omega = F.normalize(omega, dim=1)
            logit = (h * omega.detach()).sum(1) + self.psi.bias
            return logit, (aux or Aux())._replace(direction=(h.detach() * omega).sum(1))
        logit = self.psi(h).squeeze(1)
        if self.kind == "projection":
            logit = logit + ((self.map(h) if hasattr(self, "map") else h) * self.embedded(y, len(h))).sum(1)
        return logit, aux

    def embedded(self, y: Tensor | None, n: int) -> Tensor:
        """e(y) of n samples, (n, dim)"""
        if y is None and not self.null_class:
            what = f"vectors of {self.vector_dim}" if self.vector_dim else f"one of {self.num_classes} classes"
            raise UserError(f"this discriminator is conditioned on {what}, and the batch has no labels")
        if self.vector_dim:
            return self._of_vectors(y, n)
        if y is None:
            return self.embed.weight[-1:].expand(n, -1)
        if y.is_floating_point():
            raise UserError(
                f"this discriminator is conditioned on one of {self.num_classes} classes, and the batch has vectors; "
                f"build it with vector_dim={y.shape[-1]}"
            )
        return self.embed(torch.where(y < 0, self.num_classes, y) if self.null_class else y)

    def _of_vectors(self, y: Tensor | None, n: int) -> Tensor:
        if y is None:
            return self.null.expand(n, -1)
        if not y.is_floating_point() or y.shape != (n, self.vector_dim):
            raise UserError(
                f"this discriminator is conditioned on vectors of {self.vector_dim}, not on y of shape {tuple(y.shape)}"
            )
        if not self.null_class:
            return self.embed(y)
        e = self.embed(y.nan_to_num())
        return torch.where(missing(y)[:, None], self.null.to(e.dtype), e)

    def lift(self, y: Tensor | None, n: int) -> Tensor:
        """v with ⟨v, h⟩ = ⟨e(y), P h⟩; (n, width)"""
        e = self.embedded(y, n)
        return e @ self.map.weight if hasattr(self, "map") else e

    def extra_repr(self) -> str:
        return f"kind={self.kind}, num_classes={self.num_classes}, null_class={self.null_class}"
