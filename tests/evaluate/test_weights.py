"""Weights files are found where they are promised to be, checked, and a bad one never stays."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from gan_kit.evaluate.weights import digest_of, find_weights, load_state
from gan_kit.files import cache_home
from gan_kit.types import UserError

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GAN_KIT_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "net.pth").write_bytes(CONTENT)
    return (tmp_path / "served" / "net.pth").as_uri()


def put(folder: Path, name: str = "net.pth", content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_a_path_is_the_file_or_its_folder(tmp_path: Path):
    file = put(tmp_path / "own", "mine.pth")
    assert find_weights("net.pth", "file:///none", SHA256, file) == file
    file = put(tmp_path / "own")
    assert find_weights("net.pth", "file:///none", SHA256[:8], tmp_path / "own") == file
    with pytest.raises(UserError, match=rf"do not exist; fetch file:///none \(SHA-256 {SHA256}\) and put it at"):
        find_weights("net.pth", "file:///none", SHA256, tmp_path / "other.pth")


def test_places_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = put(tmp_path / "torch" / "hub" / "checkpoints")
    assert find_weights("net.pth", "file:///none", SHA256) == hub
    cached = put(cache_home() / "weights")
    assert find_weights("net.pth", "file:///none", SHA256) == cached
    monkeypatch.setenv("GAN_KIT_WEIGHTS", str(tmp_path / "shared"))
    assert find_weights("net.pth", "file:///none", SHA256) == cached
    shared = put(tmp_path / "shared")
    assert find_weights("net.pth", "file:///none", SHA256) == shared


def test_another_address_names_the_same_file(tmp_path: Path, url: str):
    hub = put(tmp_path / "torch" / "hub" / "checkpoints", "its-name.pth")
    assert find_weights("net.pth", "file:///none", SHA256, also=["file:///none/its-name.pth"]) == hub
    hub.unlink()
    assert find_weights("net.pth", "file:///none", SHA256, also=[url]) == cache_home() / "weights" / "net.pth"


def test_a_download_is_kept(url: str, tmp_path: Path):
    file = find_weights("net.pth", url, SHA256)
    assert file == cache_home() / "weights" / "net.pth"
    assert file.read_bytes() == CONTENT
    (tmp_path / "served" / "net.pth").unlink()
    assert find_weights("net.pth", url, SHA256) == file


def test_a_download_goes_to_the_users_own_place(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GAN_KIT_WEIGHTS", str(tmp_path / "shared"))
    assert find_weights("net.pth", url, SHA256) == tmp_path / "shared" / "net.pth"


@pytest.mark.parametrize("content", [b"<html>log in</html>", CONTENT[:-1], b""])
def test_a_bad_download_leaves_nothing(url: str, tmp_path: Path, content: bytes):
    (tmp_path / "served" / "net.pth").write_bytes(content)
    with pytest.raises(UserError, match="damaged, cut short or another file"):
        find_weights("net.pth", url, SHA256)
    assert list((cache_home() / "weights").iterdir()) == []


def test_offline_it_says_what_to_fetch_and_where_to_put_it():
    with pytest.raises(UserError) as told:
        find_weights("net.pth", "http://127.0.0.1:9/net.pth", SHA256)
    for words in ("net.pth", "http://127.0.0.1:9/net.pth", SHA256, str(cache_home() / "weights" / "net.pth")):
        assert words in str(told.value)


@pytest.mark.parametrize("where", ["cache", "path"])
def test_a_damaged_file_is_refused_by_name(where: str, tmp_path: Path, url: str):
    file = put(cache_home() / "weights" if where == "cache" else tmp_path / "own", content=CONTENT[:100])
    with pytest.raises(UserError, match=rf"{file.name} is damaged.*100 bytes.*remove it"):
        find_weights("net.pth", url, SHA256, file if where == "path" else None)


@pytest.mark.parametrize("sha256", ["", "1234567", "XYZ45678", SHA256.upper()])
def test_a_checksum_too_short_to_check_is_a_bug(sha256: str):
    with pytest.raises(ValueError, match="hexadecimal"):
        find_weights("net.pth", "file:///none", sha256)


def test_tensors_of_the_asked_shapes(tmp_path: Path):
    torch.save({"w": torch.ones(2, 3), "more": torch.zeros(1)}, tmp_path / "net.pth")
    assert load_state(tmp_path / "net.pth", {"w": (2, 3)}).keys() == {"w"}
    assert load_state(tmp_path / "net.pth").keys() == {"w", "more"}
    with pytest.raises(UserError, match="2 of 2 tensors are missing or of another shape, first w"):
        load_state(tmp_path / "net.pth", {"w": (3, 2), "v": (1,)})


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


def test_no_code_of_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": Evil()}, "evil.pth")
    torch.save([1, 2], "list.pth")
    Path("text.pth").write_text("<html>")
    for name, words in (("evil.pth", "be read"), ("text.pth", "be read"), ("list.pth", "state dict")):
        with pytest.raises(UserError, match=words):
            load_state(Path(name))
    assert not Path("evil").exists()


def test_the_digest_tells_values_shapes_types_and_names_apart():
    w = torch.arange(6.0)
    states = [
        {"w": w},
        {"w": w.view(2, 3)},
        {"v": w},
        {"w": w.double()},
        {"w": w + 1},
        {"w": w, "n": torch.tensor(1)},
    ]
    assert len({digest_of(state) for state in states}) == len(states)
    assert digest_of({"a": w, "b": w}) == digest_of({"b": w.clone(), "a": w})
    assert digest_of({"w": w.view(2, 3)}) == digest_of({"w": w.view(2, 3).T.contiguous().T})
