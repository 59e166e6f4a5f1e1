"""What leaves the house: the wheel, its metadata, and how fast it starts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import gan_kit

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOORS = [name for name in ("train", "sample") if (ROOT / "gan_kit" / f"{name}.py").exists()]


def python(*args: str | Path, exe: Path | str = sys.executable, **kwargs) -> subprocess.CompletedProcess[str]:
    kwargs = {"timeout": 240, **kwargs}
    return subprocess.run([exe, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, **kwargs)


def relative(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


# what is imported, and when


def test_version_is_read_from_the_source_without_an_import():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "gan_kit.__version__"}
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {gan_kit.__version__}\n" in citation
    assert f"## [{gan_kit.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("module", ["gan_kit", "gan_kit.types", "gan_kit.train", "gan_kit.sample"])
def test_import_leaves_torch_alone(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'lightning', 'numpy'}} & sys.modules.keys()))"
    done = python("-c", code, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("door", DOORS)
def test_help_is_given_without_torch(door):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{door}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('gan_kit.{door}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = python("-c", code, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "=" in done.stdout, "help shows how an override is written"


def test_every_package_is_listed():
    """setuptools can't find both gan_kit/ and conf/, so the list is ours to keep."""
    found = {path.parent for path in (ROOT / "gan_kit").rglob("*.py")}
    expected = {".".join(path.relative_to(ROOT).parts) for path in found} | {"gan_kit.conf"}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == expected


def test_every_entry_point_is_there():
    for target in PYPROJECT["project"]["scripts"].values():
        module, _, function = target.partition(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        assert f"def {function}(" in Path(spec.origin).read_text()


# the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that no build/ of an earlier day lends it files."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("gan_kit", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in {"pyproject.toml", "LICENSE", PYPROJECT["project"].get("readme", "LICENSE")}:
        shutil.copy(ROOT / name, source)
    done = python("-m", "build", "--wheel", "--no-isolation", "--outdir", out, source)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The interpreter of a new environment: the wheel from pip, its dependencies borrowed from this one."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False, symlinks=True)
    exe = home / "bin" / "python"
    done = python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", exe=exe)
    site = Path(done.stdout.strip())
    lenders = {str(Path(importlib.util.find_spec(name).origin).parents[1]) for name in ("torch", "yaml")}
    # a .pth line adds a folder, without reading the .pth files in there: an editable gan_kit stays out of sight
    (site / "dependencies.pth").write_text("\n".join(lenders))
    args = ("--no-deps", "--no-index", "--disable-pip-version-check", wheel)
    done = python("-m", "pip", "--python", exe, "install", *args, env=clean_env())
    assert done.returncode == 0, done.stdout + done.stderr
    return exe


def clean_env() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}


@pytest.mark.slow
def test_wheel_holds_all_of_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    conf = relative(ROOT / "conf", "*.yaml")
    assert any(name.count("/") > 1 for name in conf), "nested groups are what gets lost"
    assert {name for name in names if name.startswith("gan_kit/conf/")} == {f"gan_kit/conf/{name}" for name in conf}
    assert {name for name in names if name.endswith(".py")} == {
        f"gan_kit/{name}" for name in relative(ROOT / "gan_kit", "*.py")
    }
    assert "gan_kit/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert f"\nVersion: {gan_kit.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    strangers = {name.split("/")[0] for name in names} - {"gan_kit"}
    assert all(name.endswith(".dist-info") for name in strangers), strangers


@pytest.mark.slow
def test_wheel_trains_and_samples_from_an_empty_folder(installed, tmp_path):
    def run(*args: str) -> str:
        done = python(*args, exe=installed, cwd=tmp_path, env=clean_env())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    home = Path(run("-c", "import gan_kit; print(gan_kit.__file__)").strip())
    assert home.is_relative_to(installed.parents[1]), "this is to test the wheel, not the source tree"
    run("-m", "gan_kit.train", "+experiment=image/digits", "debug=two_steps")
    assert list((tmp_path / "runs").rglob("generator.safetensors"))
    run("-m", "gan_kit.sample", "n=4", "out=drawn")
    assert list((tmp_path / "drawn").rglob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PYPROJECT["project"]["scripts"]))
def test_command_is_installed(installed, tmp_path, name):
    done = python(installed.with_name(name), "--help", exe=installed, cwd=tmp_path, env=clean_env())
    assert done.returncode == 0, done.stderr
