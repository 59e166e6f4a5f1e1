"""Doors open one way: the imports of every module, read from its source, against one table.

A room may import itself and what stands beside its name; a door may import any room, and no room a door.
Imports inside functions and under TYPE_CHECKING count like all others. A new room needs a row here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "gan_kit"

MAY_IMPORT = {
    # words that all rooms share
    "types": "",
    "files": "",
    "lazy": "",
    "noise": "",
    "nn": "types",
    # networks: they never see the core, nor each other's domain
    "image": "types noise nn",
    "audio": "lazy types noise nn",
    "tokens": "types noise nn",
    "vector": "types noise nn",
    # the core: it never sees a network
    "latent": "types noise",
    "adversarial": "types noise latent",
    # data and scores
    "data": "lazy types files",
    "evaluate": "lazy types files noise nn pictures audio sounds",  # audio: one mel for what makes sounds and judges
    # around a run
    "runs": "types",
    "cost": "types files adversarial",
    "pictures": "types",
    "strategies": "types",
    "trained": "types noise latent audio",
    "sounds": "types files pictures audio",
    "bundle": "types files latent pictures sounds trained runs",
    "callbacks": "types files noise bundle evaluate pictures sounds runs",
    # `import gan_kit` offers load, lazily
    "__init__": "bundle",
}
SHARED = {  # by the doors
    "_arguments", "_door", "_fit", "_converted", "_samples", "_cli_errors", "_command_line", "_auto", "_messages",
    "_explore_files", "_explore_targets", "_explore_tools", "_space", "_sweep_report", "_sweep_trial",
}  # fmt: skip
DOORS = {"train", "sweep", "sample", "explore", "prepare", "estimate", "export", "cli", "__main__", *SHARED}

# only a door knows how its arguments came; constructors take plain, typed ones
PARSERS = {"hydra", "omegaconf", "jsonargparse", "lightning.pytorch.cli"}

# the core serves data of any rank
DOMAIN_WORDS = re.compile(
    r"(?<![a-z])(image|img|picture|pixel|audio|sound|wav|wave|waveform|spectrogram|mel)s?(?![a-z])"
)


def room_of(module: str) -> str:
    """The room, or door, of a module: gan_kit.image.dcgan -> image, gan_kit.evaluate.__main__ -> __main__"""
    parts = module.split(".")
    return "__main__" if parts[-1] == "__main__" else parts[1]


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import; `from gan_kit import x` and `gan_kit.x` are imports of gan_kit.x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gan_kit":
            yield node.lineno, f"gan_kit.{node.attr}"


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def wrong_imports(source: str, module: str) -> list[str]:
    """What this module imports against the rules, one line each."""
    room = room_of(module)
    is_door = room in DOORS
    allowed = {room, *MAY_IMPORT.get(room, "").split()}
    found = []
    for line, name in imports(ast.parse(source)):
        if name.startswith("."):
            found.append(f"{module}:{line} imports {name}: write it in full, from gan_kit on")
        elif any(within(name, parser) for parser in PARSERS):
            if not is_door:
                found.append(f"{module}:{line} imports {name}: only doors see the configuration")
        elif within(name, "gan_kit") and name not in ("gan_kit", "gan_kit.__version__"):
            seen = room_of(name)
            if seen in DOORS and not (is_door and seen in SHARED):
                found.append(f"{module}:{line} imports {name}: nothing imports a door")
            elif not is_door and seen not in allowed:
                found.append(f"{module}:{line} imports {name}: {room} may import {sorted(allowed - {room})}")
    return found


def domain_words(source: str) -> list[str]:
    """The identifiers that name a domain; docstrings, comments and messages are free to."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.update((name, other or name))
    split = {name: re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() for name in names}
    return sorted(name for name, words in split.items() if DOMAIN_WORDS.search(words))


def module_of(path: Path) -> str:
    """gan_kit/image/dcgan.py -> gan_kit.image.dcgan, gan_kit/image/__init__.py -> gan_kit.image"""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_its_room_may(module):
    room = room_of(module)
    assert room in MAY_IMPORT or room in DOORS, f"{room} is a new room: give it a row in MAY_IMPORT"
    assert wrong_imports(MODULES[module].read_text(), module) == []


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) == "adversarial"])
def test_core_speaks_of_no_domain(module):
    assert domain_words(module.split(".")[-1]) == []
    assert domain_words(MODULES[module].read_text()) == []


def test_table_has_no_way_round():
    TopologicalSorter({room: allowed.split() for room, allowed in MAY_IMPORT.items()}).prepare()


def test_table_names_only_rooms_it_has_and_no_door():
    assert set(" ".join(MAY_IMPORT.values()).split()) <= MAY_IMPORT.keys()
    assert not MAY_IMPORT.keys() & DOORS


@pytest.mark.parametrize(
    "module, source",
    [
        ("gan_kit.image.dcgan", "from gan_kit.adversarial.gan import GAN"),
        ("gan_kit.image.dcgan", "from gan_kit.adversarial import GAN"),
        ("gan_kit.image.dcgan", "import gan_kit.audio.wavegan as w"),
        ("gan_kit.image.dcgan", "from gan_kit import audio"),
        ("gan_kit.image.dcgan", "from gan_kit import load"),
        ("gan_kit.image.dcgan", "from gan_kit.audio import *"),
        ("gan_kit.image.dcgan", "import gan_kit\ngan_kit.load(run)"),
        ("gan_kit.image.dcgan", "from ..nn import Recorded"),
        ("gan_kit.audio.codec", "from gan_kit.image.r3gan import R3GANGenerator"),
        ("gan_kit.nn", "from gan_kit.noise import Noise"),
        ("gan_kit.adversarial.gan", "if TYPE_CHECKING:\n    from gan_kit.image import DCGANGenerator"),
        ("gan_kit.adversarial.gan", "def late():\n    import gan_kit.data"),
        ("gan_kit.adversarial.gan", "import omegaconf"),
        ("gan_kit.data.folder", "from hydra.utils import instantiate"),
        ("gan_kit.bundle", "from omegaconf import OmegaConf"),
        ("gan_kit.callbacks.guard", "from lightning.pytorch.cli import LightningCLI"),
        ("gan_kit.callbacks.guard", "from gan_kit.train import main"),
        ("gan_kit.callbacks.guard", "from gan_kit._door import open_door"),
        ("gan_kit.bundle", "from gan_kit.evaluate.__main__ import main"),
        ("gan_kit.sample", "import gan_kit.train"),
    ],
)
def test_checker_sees(module, source):
    assert len(wrong_imports(source, module)) == 1


@pytest.mark.parametrize(
    "module, source",
    [
        (
            "gan_kit.image.dcgan",
            "import torch\nfrom gan_kit.nn import Recorded\nfrom gan_kit.image import augment",
        ),
        ("gan_kit.image.dcgan", "import hydrangea, imageio"),
        ("gan_kit.bundle", "from gan_kit import __version__"),
        ("gan_kit.bundle", "import gan_kit\nprint(gan_kit.__version__)"),
        (
            "gan_kit.train",
            "import hydra\nfrom gan_kit._door import open_door\nfrom gan_kit.bundle import load",
        ),
        ("gan_kit.evaluate.__main__", "from omegaconf import OmegaConf\nfrom gan_kit.evaluate import suite"),
    ],
)
def test_checker_lets_pass(module, source):
    assert wrong_imports(source, module) == []


@pytest.mark.parametrize("name", ["image", "real_images", "ImageLoss", "n_pixels", "wav_len", "realImg", "MelPenalty"])
@pytest.mark.parametrize(
    "source",
    ["{} = 1", "x.{}", "def {}(): ...", "class {}: ...", "def f(*, {}): ...", "f({}=1)", "import x as {}"],
)
def test_checker_hears_a_domain_word(name, source):
    assert domain_words(source.format(name)) == [name]


@pytest.mark.parametrize(
    "source",
    ['"""Any image."""', "# image", "imagine = melt = wavelet = unwaved = 1", 'raise ValueError("image")'],
)
def test_checker_hears_no_domain_word(source):
    assert domain_words(source) == []
