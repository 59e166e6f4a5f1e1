"""Sounds in batches: the range, what changes on the device and by which draws, and packs that don't fit."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from gan_kit import _door
from gan_kit.audio.spectral import LogMel, Spectrogram
from gan_kit.data import (
    Arrays,
    BatchLoader,
    DrumsData,
    FSDDData,
    SoundDataModule,
    SoundFolder,
    SoundFolderData,
    SpeechCommandsData,
    TonesData,
)  # fmt: skip
from gan_kit.data.packed import Shards
from gan_kit.data.prepare import Sounds, prepare
from gan_kit.data.sound_folder import starts
from gan_kit.types import AudioSpec, Batch, UserError

CONF = Path(__file__).resolve().parents[2] / "conf"
SPEC = AudioSpec(16_000, 2048, 256, 64, 256, center=False, n_mels=40)


class Fixed:
    """64 sounds of 2 channels and `length` samples, sample t of sound n being 100 n + t + 1."""

    def __init__(self, length: int = 2048) -> None:
        n, t = np.arange(64)[:, None, None], np.arange(length)[None, None]
        x = (100 * n + t + 1) * np.array([1, -1])[None, :, None]
        self.arrays = Arrays(x.astype(np.int16), np.arange(64) % 4, ("a", "b", "c", "d"))

    def load(self, split: str) -> Arrays:
        return self.arrays


def batches(data: SoundDataModule) -> list[Batch]:
    return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]


def test_full_scale_is_one_and_the_spec_has_the_sound() -> None:
    data = SoundDataModule(Fixed(), SPEC, batch_size=64)
    (batch,) = batches(data)
    assert batch.x.dtype == torch.float32
    assert batch.x.shape == (64, 2, 2048)
    order = batch.x[:, 0, 0].argsort()
    assert torch.equal(batch.x[order] * 32768, torch.from_numpy(data.source.arrays.x).float())
    assert torch.equal(batch.y, ((batch.x[:, 0, 0] * 32768 - 1) / 100).long() % 4)
    assert (data.spec.shape, data.spec.num_classes, data.spec.audio) == ((2, 2048), 4, SPEC)
    assert SoundDataModule(Fixed(), SPEC, labels=False).spec.audio == SPEC


def test_no_change_draws_nothing() -> None:
    assert next(iter(SoundDataModule(Fixed(), SPEC).train_dataloader())).draws is None


def test_gain_only_quietens_and_polarity_turns_half() -> None:
    data = SoundDataModule(Fixed(), SPEC, batch_size=64, gain_db=20, polarity=True)
    plain = SoundDataModule(Fixed(), SPEC, batch_size=64)
    (changed,), (as_is,) = batches(data), batches(plain)
    assert torch.equal(changed.y, as_is.y)
    ratio = (changed.x / as_is.x).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-5, atol=0)  # one for both channels
    ratio = ratio[:, 0]
    assert 16 < (ratio < 0).sum() < 48
    db = 20 * ratio.abs().log10()
    assert -20 <= db.min() < -18
    assert -2 < db.max() <= 1e-4


def test_shifts_move_both_ways_and_zeros_come_in() -> None:
    data = SoundDataModule(Fixed(), SPEC, batch_size=64, shift_samples=10)
    (batch,) = batches(data)
    x = (batch.x * 32768).int()
    seen = set()
    for sound in x:
        first, last = sound[0].nonzero()[[0, -1], 0].tolist()
        shift = first if first else last - 2047
        seen.add(shift)
        assert torch.equal(sound[0], -sound[1])
        inside = sound[0][first : last + 1]
        assert (inside.diff() == 1).all()
        assert inside[0] % 100 == (1 - min(shift, 0)) % 100
        assert len(inside) == 2048 - abs(shift)
    assert min(seen) < -6
    assert max(seen) > 6
    assert max(map(abs, seen)) <= 10


def test_longer_sounds_are_cut_anew_each_time_and_for_scores_at_the_start() -> None:
    data = SoundDataModule(Fixed(3000), SPEC, batch_size=64)
    assert data.spec.shape == (2, 2048)
    held = data.arrays("test")
    assert (held.x == data.source.arrays.x[..., :2048]).all()
    assert held.fingerprint() != data.source.arrays.fingerprint()
    loader = data.train_dataloader()
    starts_at = []
    for epoch in range(3):
        raw = loader.batch(epoch, 0)
        x = data.on_after_batch_transfer(raw, 0).x * 32768
        assert x.shape == (64, 2, 2048)
        assert (x[:, 0].diff(dim=-1) == 1).all()
        starts_at.append(x[:, 0, 0] - raw.x[:, 0, 0])
    at = torch.stack(starts_at)
    assert at.min() < 60
    assert 952 >= at.max() > 890
    assert (at[0] != at[1]).float().mean() > 0.9


def test_draws_are_those_of_the_place_whatever_the_rank_or_what_was_read_before() -> None:
    x = Fixed().arrays.x
    whole = BatchLoader(x, batch_size=16, seed=3, draws=4)
    parts = [BatchLoader(x, batch_size=16, seed=3, draws=4, rank=r, world_size=2) for r in range(2)]
    for epoch, position in ((0, 0), (0, 3), (7, 2)):
        batch = whole.batch(epoch, position)
        assert batch.draws.shape == (16, 4)
        assert 0 <= batch.draws.min() < batch.draws.max() < 1
        ranks = torch.cat([part.batch(epoch, position).draws for part in parts])
        assert torch.equal(ranks, batch.draws)
    assert not torch.equal(whole.batch(0, 0).draws, whole.batch(0, 1).draws)
    assert not torch.equal(whole.batch(0, 0).draws, whole.batch(1, 0).draws)
    assert not torch.equal(whole.batch(0, 0).draws, BatchLoader(x, batch_size=16, seed=4, draws=4).batch(0, 0).draws)


def test_a_resumed_stream_goes_on_with_the_same_changes() -> None:
    def made() -> SoundDataModule:
        data = SoundDataModule(Fixed(3000), SPEC, batch_size=16, gain_db=12, polarity=True, shift_samples=9, seed=2)
        data.trainer = SimpleNamespace(
            global_rank=0, world_size=1, precision_plugin=SimpleNamespace(convert_input=lambda b: b)
        )
        return data

    uncut, cut, resumed = made(), made(), made()
    wanted = [uncut.on_after_batch_transfer(b, 0).x for b in islice(uncut.train_dataloader(), 9)]
    list(islice(cut.train_dataloader(), 6))
    resumed.load_state_dict(cut.state_dict())
    rest = [resumed.on_after_batch_transfer(b, 0).x for b in islice(resumed.train_dataloader(), 3)]
    assert all(torch.equal(a, b) for a, b in zip(rest, wanted[6:], strict=True))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"gain_db": -1}, r"gain_db=-1; set data\.gain_db"),
        ({"shift_samples": 2048}, r"data\.shift_samples"),
        ({"audio": AudioSpec(16_000, 4096)}, r"int16 samples of shape \(2, 2048\).*clip_samples=4096"),
    ],
)
def test_changes_that_leave_no_sound_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SoundDataModule(Fixed(), **{"audio": SPEC, **settings}).train_dataloader()


def test_pictures_are_no_sounds() -> None:
    source = Fixed()
    source.arrays = Arrays(np.zeros((64, 1, 4096), np.uint8))
    with pytest.raises(UserError, match="uint8 samples"):
        _ = SoundDataModule(source, SPEC).spec


# prepared packs


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for label in ("high", "low"):
        (top / "files" / label).mkdir(parents=True)
        for i in range(20):
            x = 0.2 * rng.standard_normal((6000, 1)) * np.sin(np.arange(6000) * rng.uniform(0.001, 0.05))[:, None]
            soundfile.write(top / "files" / label / f"{i}.wav", x, 16_000)
    prepare(top / "files", top / "pack", Sounds(16_000, 3000, fit="pad"), progress=False, workers=1)
    return top / "pack"


def test_a_pack_is_read_at_its_rate_and_cut_to_clips(pack: Path) -> None:
    data = SoundFolderData(SPEC, pack, batch_size=8)
    assert data.spec.shape == (1, 2048)
    assert data.spec.class_names == ("high", "low")
    for batch in batches(data):
        assert batch.x.shape == (8, 1, 2048)
        assert 0.01 < batch.x.abs().max() <= 1
    for split in SoundFolder(pack, SPEC).splits:
        whole = SoundFolder(pack, SPEC).load(split)
        assert (data.arrays(split).x == np.asarray(whole.x)[..., :2048]).all()


def test_shards_are_cut_without_a_copy() -> None:
    parts = [np.arange(60, dtype=np.int16).reshape(2, 1, 30), np.arange(30, dtype=np.int16).reshape(1, 1, 30)]
    cut = starts(Arrays(Shards(parts), sha256="abc"), 10)
    assert cut.x.shape == (3, 1, 10)
    assert all(np.shares_memory(a, b) for a, b in zip(cut.x.parts, parts, strict=True))
    assert cut.fingerprint() != "abc"


@pytest.mark.parametrize(
    "audio, channels, message",
    [
        (AudioSpec(22_050, 2048), 1, r"prepared at 16000 Hz, not audio\.sample_rate=22050.*domain\.sample_rate=22050"),
        (AudioSpec(16_000, 4096), 1, r"clips of 3000 samples, too short.*audio\.clip_samples=3000"),
        (SPEC, 2, r"prepared with 1 channels, not 2; set data\.channels=1"),
    ],
)
def test_a_pack_that_does_not_fit_names_the_cure(pack: Path, audio: AudioSpec, channels: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SoundFolder(pack, audio, channels).load("train")


def test_what_is_no_pack_of_sounds_names_the_cure(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set data\.root"):
        SoundFolder(None, SPEC)
    with pytest.raises(UserError, match=r"python -m gan_kit\.prepare source=.* domain=audio domain\.sample_rate=16000"):
        SoundFolder(pack.parent / "files", SPEC).load("train")
    with pytest.raises(UserError, match="no prepared data set"):
        SoundFolder(tmp_path / "nowhere", SPEC).load("train")
    (tmp_path / "dataset.json").write_text('{"format": 1, "domain": "image", "counts": {}}')
    with pytest.raises(UserError, match=r"holds images, not sounds; set data=folder"):
        SoundFolder(tmp_path, SPEC).load("train")


# conf/


@pytest.fixture
def composed(tmp_path: Path):
    def build(*overrides: str):
        (tmp_path / "top.yaml").write_text(
            f"defaults: [{{data: digits}}, _self_]\nimage_size: 16\nseed: 5\nhydra: {{searchpath: ['file://{CONF}']}}\n"
        )
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            return compose("top", list(overrides))

    return build


@pytest.mark.parametrize(
    "name, kind",
    [
        ("drums", DrumsData),
        ("tones", TonesData),
        ("fsdd", FSDDData),
        ("speech_commands", SpeechCommandsData),
        ("sound_folder", SoundFolderData),
    ],
)
def test_each_group_builds_its_class_with_the_runs_seed_and_sound(composed, name: str, kind: type) -> None:
    more = ["+data.root=/somewhere"] if name == "sound_folder" else []
    more = [m.lstrip("+") for m in more]
    cfg = composed(f"data={name}", "data.batch_size=8", "data.labels=false", "audio.eps=0.5", *more)
    data = instantiate(cfg.data, _convert_="all")
    assert type(data) is kind
    assert (data.batch_size, data.labels, data.seed) == (8, False, 5)
    assert data.audio == instantiate(cfg.audio)
    assert data.audio.eps == 0.5
    for key in ("gain_db", "polarity", "shift_samples"):
        assert key in cfg.data


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONF / "audio").glob("*.yaml")))
def test_each_sound_makes_mel_bands_and_is_chosen_in_a_word(composed, name: str) -> None:
    cfg = composed("data=drums", f"audio={name}")
    spec = instantiate(cfg.audio)
    assert isinstance(spec, AudioSpec)
    assert set(cfg.audio) == {"_target_", *AudioSpec.__dataclass_fields__}
    x = 0.1 * torch.randn(1, 1, spec.clip_samples)
    assert LogMel(spec)(x).shape == (1, 1, spec.n_mels, spec.frames())
    if name in ("drums", "fsdd", "sc09", "gansynth"):
        _, bins, frames = Spectrogram(spec).shape
        assert (bins & (bins - 1), frames & (frames - 1)) == (0, 0)


def test_a_mistake_in_the_sound_is_told_by_its_key() -> None:
    cfg = _door.compose("train", ["data=drums", "audio.hop_length=2.5"])
    with pytest.raises(UserError, match=r"audio\.hop_length=2\.5 is not a whole number"):
        _door.Builder(cfg)("data")
    cfg = _door.compose("train", ["data=drums", "audio.hop_length=200"])
    with pytest.raises(UserError, match=r"set audio\.hop_length=128"):
        _door.Builder(cfg)("data")


def test_drums_train_val_and_test_are_their_own() -> None:
    data = DrumsData(AudioSpec(16_000, 2048, 256, 64, 256), count=64)
    x = [data.arrays(split).x for split in ("train", "val", "test")]
    assert [len(a) for a in x] == [64, 8, 8]
    assert data.spec.num_classes == 8
    assert len({s.tobytes() for a in x for s in a}) == 80
