"""What the docs say holds: links lead somewhere, commands compose, code on the pages and in the notebooks runs."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from gan_kit import _door
from gan_kit._arguments import normalised

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"python -m gan_kit\.train ((?:\\\n|[^#`\n])*)")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_training_commands_compose(page: Path) -> None:
    for command in COMMAND.findall(page.read_text()):
        words = shlex.split(command.replace("\\\n", " "))
        if any(w.startswith(("-", "resume=")) or "…" in w or "NAME" in w for w in words) or not words:
            continue
        if any("my_" in w for w in words):
            continue  # run for real below
        _door.compose("train", normalised(words))


def write_modules(page: str, folder: Path) -> None:
    for block in blocks(page, "python"):
        if name := re.match(r"# (my_\w+\.py)\n", block):
            (folder / name[1]).write_text(block)


def test_the_loss_and_penalty_of_add_a_loss_train(cli, tmp_path: Path) -> None:
    write_modules("docs/add-a-loss.md", tmp_path)
    assert (tmp_path / "my_losses.py").exists()
    done = cli(
        "train",
        "+experiment=ring",
        "debug=two_steps",
        "objective.loss._target_=my_losses.Logistic",
        "+objective.penalties.drift={_target_: my_penalties.LogitDrift, weight: 0.001}",
        "+objective.terms.mean={_target_: my_terms.Brightness, weight: 0.1}",
        env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stderr
    assert "penalty_drift" in next(tmp_path.rglob("metrics.jsonl")).read_text()


def test_the_nets_of_add_a_net_train_and_load(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_modules("docs/add-a-net.md", tmp_path)
    yaml = blocks("docs/add-a-net.md", "yaml")[0]
    for group, text in {"generator": yaml, "discriminator": yaml.replace("Generator", "Discriminator")}.items():
        (tmp_path / "my_conf" / group).mkdir(parents=True)
        (tmp_path / "my_conf" / group / "tiny.yaml").write_text(text)
    done = cli(
        "train",
        "--config-dir",
        "my_conf",
        "data=digits",
        "image_size=16",
        "generator=tiny",
        "discriminator=tiny",
        "data.labels=false",
        "debug=two_steps",
        env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stderr
    import gan_kit

    monkeypatch.syspath_prepend(str(tmp_path))
    run = next(tmp_path.rglob("config.yaml")).parent
    with pytest.raises(gan_kit.types.UserError, match="my_nets"):
        gan_kit.load(next(tmp_path.rglob("bundle")))
    assert gan_kit.load(next(run.parent.rglob("bundle")), allow=["my_nets."]).sample(3).shape == (3, 1, 16, 16)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_STEPS", "100")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    assert sys.executable
    NotebookClient(notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    said = "".join(o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    assert {"01_first_gan": "of 8 modes", "02_drums": "3,200 sounds seen"}[path.stem] in said
