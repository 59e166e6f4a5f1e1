"""What a generator reads of a condition: a row a class, or a linear map of a vector; and the answer to none at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_kit.types import UserError, missing

__all__ = ["ClassEmbedding", "VectorEmbedding", "embedding"]


class ClassEmbedding(nn.Embedding):
    """y: (B,) class indices or None -> (B, dim), of n samples.

    null_class: one more row, for samples without a label: y = num_classes, y < 0 and y = None

    Raises UserError for labels that are missing, and for vectors.
    """

    def __init__(self, num_classes: int, dim: int, null_class: bool = False):
        super().__init__(num_classes + null_class, dim)
        self.num_classes, self.null_class = num_classes, null_class

    def reset_parameters(self, std: float = 1.0) -> None:
        nn.init.normal_(self.weight, std=std)

    def forward(self, y: Tensor | None, n: int) -> Tensor:  # type: ignore[override]
        if y is None and not self.null_class:
            raise UserError(
                f"this network is conditioned on one of {self.num_classes} classes; give labels y, one a sample"
            )
        if y is None:
            return self.weight[-1:].expand(n, -1)
        if y.is_floating_point():
            raise UserError(
                f"this network is conditioned on one of {self.num_classes} classes, and y {tuple(y.shape)} holds "
                f"vectors; build it with vector_dim={y.shape[-1]}"
            )
        return super().forward(torch.where(y < 0, self.num_classes, y) if self.null_class else y)


class VectorEmbedding(nn.Module):
    """y: (B, vector_dim) floats or None -> W y, (B, dim), of n samples.

    Vectors are best of length 1 or so, as embeddings of texts are: W is drawn as the rows of a `ClassEmbedding` are, so
    that a one-hot vector is its class.
    null_class: a learned answer to samples without a vector: rows of NaN, and y = None

    Raises UserError for vectors that are missing or of another length, and for classes.
    """

    def __init__(self, vector_dim: int, dim: int, null_class: bool = False):
        super().__init__()
        self.vector_dim, self.embedding_dim, self.null_class = vector_dim, dim, null_class
        self.weight = nn.Parameter(torch.empty(dim, vector_dim))
        self.null = nn.Parameter(torch.empty(dim)) if null_class else None
        self.reset_parameters()

    def reset_parameters(self, std: float = 1.0) -> None:
        nn.init.normal_(self.weight, std=std)
        if self.null is not None:
            nn.init.normal_(self.null, std=std)

    def forward(self, y: Tensor | None, n: int) -> Tensor:
        if y is None and self.null is None:
            raise UserError(
                f"this network is conditioned on vectors of {self.vector_dim}; give y of shape ({n}, {self.vector_dim})"
            )
        if y is None:
            return self.null.expand(n, -1)  # type: ignore[union-attr]
        if not y.is_floating_point() or y.shape != (n, self.vector_dim):
            raise UserError(
                f"this network is conditioned on vectors of {self.vector_dim}, not on y of shape {tuple(y.shape)}, "
                f"{str(y.dtype).removeprefix('torch.')}; give floats of shape ({n}, {self.vector_dim})"
            )
        if self.null is None:
            return F.linear(y.to(self.weight.dtype), self.weight)
        of_vector = F.linear(y.nan_to_num().to(self.weight.dtype), self.weight)
        return torch.where(missing(y)[:, None], self.null.to(of_vector.dtype), of_vector)

    def extra_repr(self) -> str:
        return f"{self.vector_dim}, {self.embedding_dim}, null_class={self.null_class}"


def embedding(
    num_classes: int, dim: int, null_class: bool = False, vector_dim: int = 0
) -> ClassEmbedding | VectorEmbedding | None:
    """Of classes, of vectors, or None where a network is unconditional. Raises UserError for both at once."""
    if num_classes and vector_dim:
        raise UserError(
            f"num_classes={num_classes} and vector_dim={vector_dim}: a network takes one of them, set one 0"
        )
    if vector_dim:
        return VectorEmbedding(vector_dim, dim, null_class)
    return ClassEmbedding(num_classes, dim, null_class) if num_classes else None
