"""`init_args` rebuild the net, however it was called and whatever derives from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from torch import nn

from gan_kit.image import DCGANDiscriminator, DCGANGenerator, R3GANDiscriminator, R3GANGenerator
from gan_kit.nn import Recorded
from gan_kit.vector import MLPDiscriminator, MLPGenerator


class Base(Recorded, nn.Module):
    def __init__(self, width: int, widths: tuple[int, ...] = (1, 2), *, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=bias)


class Derived(Base):
    def __init__(self, scale: float = 2.0, depth: int = 1) -> None:
        super().__init__(width=int(4 * scale), bias=False)


class Inheriting(Base):
    """No constructor of its own."""


def test_positional_and_default_arguments_are_named() -> None:
    expected = {"width": 3, "widths": [1, 2], "bias": True}
    assert Base(3).init_args == Base(width=3).init_args == Inheriting(3).init_args == expected
    assert Base(3, (5, 6), bias=False).init_args == {"width": 3, "widths": [5, 6], "bias": False}


def test_a_subclass_records_its_own_arguments_not_its_bases() -> None:
    assert Derived(0.5).init_args == {"scale": 0.5, "depth": 1}
    assert Derived(0.5).linear.weight.shape == (2, 2)


def test_wrong_arguments_fail_as_they_would_without_the_record() -> None:
    with pytest.raises(TypeError, match="wdith"):
        Base(3, wdith=3)  # type: ignore[call-arg]
    assert Base.__init__.__name__ == "__init__"


NETS: list[tuple[type[Any], dict[str, Any]]] = [
    (MLPGenerator, {"width": 8, "num_classes": 3}),
    (MLPDiscriminator, {"width": 8, "depth": 2}),
    (DCGANGenerator, {"size": 16, "width": 4, "num_classes": 2}),
    (DCGANDiscriminator, {"size": 16, "width": 4, "norm": "none"}),
    (R3GANGenerator, {"size": 16, "widths": (32, 16, 8), "group_size": 8, "blocks": 1}),
    (R3GANDiscriminator, {"size": 16, "widths": (32, 16, 8), "group_size": None, "patch": 1}),
]


@pytest.mark.parametrize("cls, arguments", NETS, ids=lambda v: v.__name__ if isinstance(v, type) else "")
def test_a_net_is_rebuilt_from_its_path_and_arguments_as_yaml(cls: type[Any], arguments: dict[str, Any]) -> None:
    import importlib

    net = cls(**arguments)
    text = yaml.safe_dump({"target": net.target, "args": net.init_args})
    config = yaml.safe_load(text)
    module, _, name = config["target"].rpartition(".")
    again = getattr(importlib.import_module(module), name)(**config["args"])
    again.load_state_dict(net.state_dict())
    assert type(again) is cls
    assert again.init_args == net.init_args
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items())
