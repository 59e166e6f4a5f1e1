"""objective.gamma=auto and optimizer.*.lr=auto: where published rules say to begin, once the data are known."""

from __future__ import annotations

from typing import Any

from gan_kit import _door
from gan_kit.types import DataSpec, UserError

__all__ = ["settle"]

AUTO = "auto"


def settle(cfg: Any, spec: DataSpec) -> list[str]:
    """Put numbers in the place of `auto`, by `gan_kit.adversarial.heuristics`; -> what was put where, in words.

    cfg: composed, with `spec` filled in, not resolved yet. Raises UserError where there is no rule to go by.
    """
    from omegaconf import OmegaConf

    lines = []
    if OmegaConf.select(cfg, "objective.gamma") == AUTO:
        _only_gans(cfg, "objective.gamma")
        lines.append(_gamma(cfg, spec))
    for letter in "gd":
        if OmegaConf.select(cfg, f"optimizer.{letter}.lr") == AUTO:
            _only_gans(cfg, f"optimizer.{letter}.lr")
            lines.append(_rate(cfg, letter))
    return lines


def _only_gans(cfg: Any, key: str) -> None:
    if cfg.model._target_ != "gan_kit.adversarial.GAN":
        raise UserError(f"{key}=auto is for model=gan, not for {cfg.model._target_}; give a number")


def _gamma(cfg: Any, spec: DataSpec) -> str:
    from omegaconf import OmegaConf

    from gan_kit.adversarial.heuristics import gamma_r1, gamma_relativistic

    if len(spec.shape) != 3 or spec.audio is not None:
        raise UserError("objective.gamma=auto goes by the size of pictures, which these data are not; give a number")
    penalties = OmegaConf.select(cfg, "objective.penalties") or {}
    kinds = {str(p._target_).rpartition(".")[2] for p in penalties.values() if p} & {"R1", "R2"}
    loss, size = str(cfg.objective.loss._target_).rpartition(".")[2], max(spec.shape[1:])
    if loss == "Relativistic" and kinds == {"R1", "R2"}:
        start = gamma_relativistic(size)
        cfg.objective.gamma = {
            "_target_": "gan_kit.adversarial.Cosine",
            "start": start,
            "end": start / 10,
            "duration_samples": "${schedule_samples}",
        }
        return f"objective.gamma {start:.3g} -> {start / 10:.3g}, between R3GAN's settings for {size}x{size} pictures"
    if loss == "NonSaturating" and kinds == {"R1"}:
        cfg.objective.gamma = gamma = gamma_r1(size, cfg.data.batch_size)
        return f"objective.gamma {gamma:.3g}, 0.0002 x {size}² / {cfg.data.batch_size} (StyleGAN2-ADA)"
    raise UserError(
        f"objective.gamma=auto knows R1 with the non-saturating loss and R1 + R2 with relativistic pairs, not "
        f"{' + '.join(sorted(kinds)) or 'no R1'} with {loss}; give a number"
    )


def _rate(cfg: Any, letter: str) -> str:
    import torch

    from gan_kit.adversarial.heuristics import learning_rate
    from gan_kit.nn import EqualConv2d, EqualLinear

    name, key = {"g": "generator", "d": "discriminator"}[letter], f"optimizer.{letter}.lr"
    if cfg.model.schedules.get(f"lr_{letter}"):
        raise UserError(f"{key}=auto would be of no use: model.schedules.lr_{letter} sets it; change that one")
    build = _door.Builder(cfg.copy())
    build.resolve()
    with torch.device("meta"):  # shapes alone
        net = build(name)
    widest = max((p.shape[0] for p in net.parameters() if p.dim() == 4), default=0)
    if not widest or any(isinstance(layer, EqualConv2d | EqualLinear) for layer in net.modules()):
        raise UserError(
            f"{key}=auto goes by the widest convolution with weights as they are, and {type(net).__name__} has none; "
            f"give a number, such as its paper's"
        )
    cfg.optimizer[letter].lr = rate = learning_rate(widest)
    return f"{key} {rate:.3g}, R3GAN's 2e-4 at 768 channels, for {widest}"
