"""A composed experiment as the Lightning CLI's `run.yaml`: Hydra's `_target_` is its `class_path`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gan_kit import _door
from gan_kit.types import UserError

PARTIAL = "gan_kit._converted.Partial"
TRAINER = "lightning.pytorch.Trainer"


class Partial:
    """A function with some of its arguments, which jsonargparse has no form of its own for."""

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any]):
        self.function, self.arguments = function, arguments

    def __call__(self, *args: Any) -> Any:
        return self.function(*args, **self.arguments)


def run_config(cfg: Any) -> dict[str, Any]:
    """What `python -m gan_kit.cli` takes, of a composed config with `spec` filled in.

    The loggers write into the run's folder, wherever that comes to lie: their save_dir is "." from there.
    Raises UserError for what has no counterpart there.
    """
    plain = _door.Builder(cfg).plain
    trainer = plain("trainer")
    if trainer.get("_target_") != TRAINER:
        raise UserError(f"trainer._target_={trainer.get('_target_')}: the Lightning CLI builds {TRAINER} only")
    loggers = [logger for logger in plain("logger").values() if logger]
    for logger in loggers:
        if logger.get("save_dir") == cfg.paths.output_dir:
            logger["save_dir"] = "."
    return {
        "seed_everything": cfg.seed,
        "threads": cfg.threads,
        "model": converted(plain("model"), "model"),
        "data": converted(plain("data"), "data"),
        "trainer": {
            **{k: converted(v, f"trainer.{k}") for k, v in trainer.items() if not k.startswith("_")},
            "callbacks": [converted(v, f"callbacks.{k}") for k, v in plain("callbacks").items() if v],
            "logger": [converted(logger, "logger") for logger in loggers] or False,
        },
    }


def converted(node: Any, key: str) -> Any:
    """A plain config: {_target_: path, ...} -> {class_path: path, init_args: ...}, and a function with nothing bound
    -> its path. A partial looks like what it is a partial of: the CLI tells from the type that is wanted.

    key: where the node stands, for errors. Raises UserError for positional arguments and other keys of Hydra's.
    """
    if isinstance(node, list):
        return [converted(item, f"{key}.{i}") for i, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    from hydra.utils import get_object

    arguments = {k: converted(v, f"{key}.{k}") for k, v in node.items() if not str(k).startswith("_")}
    if "_target_" not in node:
        return arguments
    if "_args_" in node:
        raise UserError(f"{key}._args_: the Lightning CLI knows no positional arguments; give them by name")
    path = node["_target_"]
    if node.get("_partial_") and not inspect.isclass(get_object(path)):
        if any(isinstance(v, dict) and "class_path" in v for v in arguments.values()):
            raise UserError(
                f"{key}: the Lightning CLI builds no parts inside a function's arguments; make {path} a class"
            )
        return {"class_path": PARTIAL, "init_args": {"function": path, "arguments": arguments}} if arguments else path
    return {"class_path": path, **({"init_args": arguments} if arguments else {})}


def hydra_form(node: Any) -> Any:
    """The way back, of parts that are no partials: {class_path, init_args} -> {_target_, ...}"""
    if isinstance(node, list):
        return [hydra_form(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("class_path"), str):
        return {"_target_": node["class_path"], **hydra_form(node.get("init_args") or {})}
    return {k: hydra_form(v) for k, v in node.items()}


def as_yaml(config: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)
