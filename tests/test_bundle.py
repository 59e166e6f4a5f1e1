"""Bundles: what is saved comes back bit for bit, a sample belongs to its number, nothing foreign is ever built."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import gan_kit
from gan_kit import bundle
from gan_kit.bundle import TrainedGAN, label_rows, load, save
from gan_kit.files import sha256_of
from gan_kit.image import DCGANGenerator, R3GANGenerator
from gan_kit.latent import Normal, Uniform
from gan_kit.nn import Recorded
from gan_kit.types import DataSpec, UserError
from gan_kit.vector import MLPGenerator

FILES = {"generator.safetensors", "config.yaml", "card.md", "samples.png"}
NAMES = ("boot", "shirt", "bag")


def conditional() -> nn.Module:
    return R3GANGenerator(8, 1, 3, z_dim=4, embed_dim=4, width=16, blocks=1)


def dcgan() -> nn.Module:
    net = DCGANGenerator(8, 3, 3, z_dim=4, embed_dim=4, width=4)
    for _ in range(3):  # statistics that differ from their initial ones
        net(torch.randn(16, 4) * 2 + 1, torch.arange(16) % 3)
    return net


def spec(net: Any) -> DataSpec:
    arguments = net.init_args
    if "dims" in arguments:
        return DataSpec((arguments["dims"],))
    return DataSpec((arguments["channels"], 8, 8), arguments["num_classes"], NAMES)


def gan(net: nn.Module) -> TrainedGAN:
    return TrainedGAN(net, Normal(), spec(net))


MAKERS: list[Callable[[], nn.Module]] = [conditional, dcgan, MLPGenerator]
makers = pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    net = conditional()
    return save(tmp_path / "bundle", net, Normal(), spec(net), {"experiment": "test", "samples_seen": 1234567})


def rewrite(folder: Path, **changes: Any) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | changes))


# ---- round trip -------------------------------------------------------------------------------------------------


@makers
@pytest.mark.parametrize("prior", [Normal(), Uniform()], ids=lambda p: type(p).__name__)
def test_what_is_saved_comes_back_bit_for_bit(make: Callable[[], Any], prior: Any, tmp_path: Path) -> None:
    net = make()
    facts = {"experiment": "x", "samples_seen": 7}
    folder = save(tmp_path / "bundle", net, prior, spec(net), facts)
    again = load(folder)
    expected = TrainedGAN(net, prior, spec(net)).sample(20, seed=3)
    assert torch.equal(again.sample(20, seed=3), expected)
    assert (again.spec, again.facts, type(again.prior)) == (spec(net), facts, type(prior))
    assert not again.generator.training
    assert not any(p.requires_grad for p in again.generator.parameters())
    assert {p.name for p in folder.iterdir()} == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_saving_leaves_the_net_as_it_was(tmp_path: Path) -> None:
    net = dcgan().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    save(tmp_path / "bundle", net, Normal(), spec(net))
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_the_card_says_what_it_is_and_no_file_holds_a_pickle(saved: Path) -> None:
    card = (saved / "card.md").read_text()
    for part in ("# test", "1,234,567", "gan_kit.image.r3gan.R3GANGenerator", "1 x 8 x 8", "boot, shirt, bag"):
        assert part in card
    assert not any(path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x04") for path in saved.iterdir())
    assert set(load_file(saved / "generator.safetensors")) == set(conditional().state_dict())


def test_saving_again_replaces(saved: Path) -> None:
    first = load(saved).sample(4)
    (saved / "stray.txt").write_text("of the old one")
    net = conditional()
    save(saved, net, Normal(), spec(net))
    assert {p.name for p in saved.iterdir()} == FILES
    assert torch.equal(load(saved).sample(4), gan(net).sample(4))
    assert not torch.equal(load(saved).sample(4), first)


def test_a_net_that_does_not_record_its_arguments_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Linear does not record .* gan_kit\.nn\.Recorded"):
        save(tmp_path / "bundle", nn.Linear(2, 2), Normal(), DataSpec((2,)))
    assert not list(tmp_path.iterdir())


# ---- interruptions ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("rename", [0, 1])
@pytest.mark.parametrize("times", [1, 2])
def test_a_save_that_is_killed_loses_nothing(
    saved: Path, rename: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first or between both renames, once or twice running: the old one loads, then the new one."""
    old, real = load(saved).sample(4), os.replace
    net = conditional()
    for _ in range(times):
        left = [rename if saved.exists() else 0]

        def replace(a: Any, b: Any, left: list[int] = left) -> None:
            if Path(b).name == "samples.png":
                return real(a, b)
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(a, b)

        with monkeypatch.context() as patch:
            patch.setattr(bundle.os, "replace", replace)
            with pytest.raises(Killed):
                save(saved, net, Normal(), spec(net))
        assert (saved.parent / ".bundle.part").is_dir()
        assert saved.exists() == (rename == 0)
        assert torch.equal(load(saved).sample(4), old)
    save(saved, net, Normal(), spec(net))
    assert torch.equal(load(saved).sample(4), gan(net).sample(4))
    assert [p.name for p in saved.parent.iterdir()] == ["bundle"]


def run_at(folder: Path, when: int) -> tuple[Path, nn.Module]:
    net = conditional()
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("name: x\n")
    save(folder / "bundle", net, Normal(), spec(net))
    os.utime(folder / "checkpoints", (when, when))
    return folder, net


def test_a_folder_of_runs_gives_the_newest(tmp_path: Path) -> None:
    run_at(tmp_path / "digits" / "b", 1000)
    newest, net = run_at(tmp_path / "digits" / "a", 3000)
    run_at(tmp_path / "ring" / "c", 2000)
    for place in (tmp_path, tmp_path / "digits", newest, newest / "bundle", str(tmp_path)):
        assert torch.equal(gan_kit.load(place).sample(4), gan(net).sample(4))


def test_a_run_whose_bundle_was_being_replaced_still_loads(tmp_path: Path) -> None:
    run, net = run_at(tmp_path / "run", 1000)
    os.replace(run / "bundle", run / ".bundle.old")
    for place in (run, run / "bundle"):
        assert torch.equal(load(place).sample(4), gan(net).sample(4))


def test_where_there_is_no_bundle_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"there is no folder {tmp_path / 'none'}"):
        load(tmp_path / "none")
    with pytest.raises(UserError, match=f"no run below {tmp_path}"):
        load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("name: x\n")
    with pytest.raises(UserError, match="stopped before its first checkpoint"):
        load(tmp_path)


# ---- damage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 9, -1])
def test_one_flipped_byte_in_the_weights_is_refused(saved: Path, place: int) -> None:
    weights = saved / "generator.safetensors"
    data = bytearray(weights.read_bytes())
    data[place] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match=r"generator.safetensors is damaged"):
        load(saved)


def test_missing_files_are_named(saved: Path) -> None:
    os.rename(saved / "card.md", saved / "card.txt")  # neither the card nor the picture is needed
    os.remove(saved / "samples.png")
    load(saved)
    config = (saved / "config.yaml").read_text()
    os.remove(saved / "config.yaml")
    with pytest.raises(UserError, match="no bundle in"):
        load(saved)
    (saved / "config.yaml").write_text(config)
    os.remove(saved / "generator.safetensors")
    with pytest.raises(UserError, match=r"generator\.safetensors is missing; copy the whole bundle"):
        load(saved)


@pytest.mark.parametrize("text", ["format: 1\n", "", "[1, 2]", "just words", "format: 2\n", "format: [\n", "\x00"])
def test_a_config_that_describes_no_generator_is_refused(saved: Path, text: str) -> None:
    (saved / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"format|damaged|YAML"):
        load(saved)


def test_a_config_that_is_not_text_is_refused(saved: Path) -> None:
    (saved / "config.yaml").write_bytes(b"\xff\xfe\x00format")
    with pytest.raises(UserError, match="not readable YAML"):
        load(saved)


@pytest.mark.parametrize("missing", ["generator", "prior", "data", "facts"])
def test_a_missing_part_is_named(saved: Path, missing: str) -> None:
    config = yaml.safe_load((saved / "config.yaml").read_text())
    del config[missing]
    (saved / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=f"does not describe a generator: .*{missing}"):
        load(saved)


def test_arguments_that_the_class_does_not_take_are_refused(saved: Path) -> None:
    rewrite(saved, generator={"target": "gan_kit.image.R3GANGenerator", "args": {"colour": 3}})
    with pytest.raises(UserError, match=r"does not describe a generator: .*colour"):
        load(saved)


def test_weights_of_another_net_are_refused(saved: Path) -> None:
    rewrite(saved, generator={"target": "gan_kit.vector.MLPGenerator", "args": {}})
    with pytest.raises(UserError, match=r"does not fit gan_kit.vector.MLPGenerator"):
        load(saved)


# ---- what a stranger's bundle may build -------------------------------------------------------------------------

TRACES: list[str] = []


class Foreign(Recorded, nn.Module):
    """A user's own generator."""

    z_dim, num_classes = 2, 0

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        TRACES.append("built")
        self.linear = nn.Linear(2, dims)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.linear(z)


OUTSIDE = "not part of gan_kit"


@pytest.mark.parametrize(
    "target, message",
    [
        ("os.system", OUTSIDE),
        ("builtins.eval", OUTSIDE),
        ("torch.nn.Linear", OUTSIDE),
        ("gan_kitten.Net", OUTSIDE),
        ("gan_kit", OUTSIDE),
        (f"{__name__}.Foreign", OUTSIDE),
        ("gan_kit.train.main", "is not a class"),
        ("gan_kit.train.os", "is not a class"),
        ("gan_kit.bundle.Path", OUTSIDE),  # ours imports it
        ("gan_kit.bundle.nn.Linear", "does not have"),
        ("gan_kit.image.r3gan.nn", "is not a class"),
        ("gan_kit.bundle.TrainedGAN", "is not a network"),
        ("gan_kit.latent.Normal", "is not a network"),
        ("gan_kit.train.os.system", "does not have"),
        ("gan_kit..os.system", "does not have"),
        ("gan_kit.", "does not have|not a class"),
        ("gan_kit.image.NoSuchGenerator", "does not have"),
        (7, "does not describe a generator"),
        (None, "does not describe a generator"),
    ],
)
def test_generators_are_networks_of_ours_and_nothing_else(saved: Path, target: Any, message: str) -> None:
    TRACES.clear()
    witness = saved.parent / "executed"
    rewrite(saved, generator={"target": target, "args": {"command": f"touch {witness}"}})
    with pytest.raises(UserError, match=message):
        load(saved)
    assert not witness.exists()
    assert not TRACES


@pytest.mark.parametrize(
    "target",
    ["os.system", "gan_kit.image.R3GANGenerator", "gan_kit.noise.BatchNoise", "gan_kit.latent.prior.ABC"],
)
def test_priors_come_from_latent(saved: Path, target: str) -> None:
    rewrite(saved, prior={"target": target, "args": {}})
    with pytest.raises(UserError, match=r"not part of gan_kit.latent"):
        load(saved)


def test_an_abstract_prior_is_no_prior(saved: Path) -> None:
    rewrite(saved, prior={"target": "gan_kit.latent.Prior", "args": {}})
    with pytest.raises(UserError, match="does not describe a generator"):
        load(saved)


def test_a_users_own_net_is_saved_and_loaded_when_allowed(tmp_path: Path) -> None:
    net = Foreign()
    folder = save(tmp_path / "bundle", net, Normal(), DataSpec((2,)))
    TRACES.clear()
    with pytest.raises(UserError, match=r"if you trust it, load it with allow=\["):
        load(folder)
    assert not TRACES
    again = load(folder, allow=[f"{__name__}."])
    assert torch.equal(again.sample(5), TrainedGAN(net, Normal(), DataSpec((2,))).sample(5))


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/object/new:os"]
)
def test_yaml_that_builds_python_objects_is_refused(saved: Path, tag: str) -> None:
    witness = saved.parent / "executed"
    text = (saved / "config.yaml").read_text()
    (saved / "config.yaml").write_text(f"{text}\nextra: {tag} ['touch {witness}']\n")
    with pytest.raises(UserError, match="holds more than plain values"):
        load(saved)
    assert not witness.exists()


def test_a_pickle_in_place_of_the_weights_is_refused(saved: Path) -> None:
    import pickle

    witness = saved.parent / "executed"

    class Bomb:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {witness}",)

    (saved / "generator.safetensors").write_bytes(pickle.dumps(Bomb()))
    rewrite(saved, weights_sha256=sha256_of(saved / "generator.safetensors"))
    with pytest.raises(UserError, match="does not fit"):
        load(saved)
    assert not witness.exists()


def test_weights_are_taken_whole(saved: Path) -> None:
    weights = load_file(saved / "generator.safetensors")
    weights.pop("basis")
    save_file(weights, saved / "generator.safetensors")
    rewrite(saved, weights_sha256=sha256_of(saved / "generator.safetensors"))
    with pytest.raises(UserError, match=r"does not fit .*basis"):
        load(saved)


# ---- samples ----------------------------------------------------------------------------------------------------


@makers
def test_a_sample_depends_on_its_seed_and_number_alone(make: Callable[[], nn.Module]) -> None:
    trained = gan(make())
    whole = trained.sample(23, seed=5)
    assert whole.dtype == torch.float32
    assert whole.abs().max() <= 1
    for n, batch_size, start in ((7, 64, 0), (23, 1, 0), (23, 5, 0), (10, 4, 13)):
        part = trained.sample(n, seed=5, batch_size=batch_size, start=start)
        assert torch.allclose(part, whole[start : start + n], atol=1e-5)
    assert not torch.allclose(trained.sample(23, seed=6), whole, atol=1e-3)
    assert len({tuple(x.flatten().tolist()) for x in whole}) >= 20  # those beyond [-1, 1] may meet in a corner


def test_sampling_draws_from_no_global_generator_and_leaves_none_changed() -> None:
    trained = gan(conditional())
    before = torch.get_rng_state()
    first = trained.sample(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(trained.sample(4), first)


def test_samples_are_clamped_and_batches_bounded() -> None:
    net = MLPGenerator(width=8)
    with torch.no_grad():
        net.net[-1].bias.fill_(5.0)
    trained = gan(net)
    assert trained.sample(3).max() == 1
    assert [len(x) for x in trained.batches(10, batch_size=4)] == [4, 4, 2]


def test_labels_by_number_name_and_list_agree() -> None:
    trained = gan(conditional())
    bags = trained.sample(6, 2)
    assert torch.equal(trained.sample(6, "bag"), bags)
    assert torch.equal(trained.sample(6, [2] * 6), bags)
    mixed = trained.sample(6, [0, 2, 0, 2, 0, 2])
    assert torch.allclose(mixed[1::2], bags[1::2], atol=1e-5)
    assert not torch.allclose(mixed[::2], bags[::2], atol=1e-3)


def test_without_a_label_the_classes_come_evenly_and_belong_to_the_sample() -> None:
    trained = gan(conditional())
    labels = trained.labels(3000, None, 0, 0)
    assert labels is not None
    counts = torch.bincount(labels, minlength=3)
    assert (counts - 1000).abs().max() < 5 * (3000 * 2 / 9) ** 0.5
    assert torch.equal(trained.sample(8), trained.sample(8, labels[:8].tolist()))


def test_psi_zero_gives_one_sample_a_class_and_psi_shrinks_the_spread() -> None:
    trained = gan(conditional())
    x = trained.sample(6, [0, 1, 2, 0, 1, 2], psi=0)
    assert torch.allclose(x[:3], x[3:], atol=1e-6)
    assert torch.equal(trained.sample(4, 1, seed=9, psi=0), trained.sample(4, 1, seed=8, psi=0))
    flat = gan(MLPGenerator(width=32))
    spreads = [flat.sample(500, psi=psi).std(0).sum().item() for psi in (0, 0.3, 0.7, 1)]
    assert spreads[0] < 1e-5
    assert spreads == sorted(spreads)
    assert len(set(spreads)) == 4


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"n": 0}, "n=0 must be at least 1"),
        ({"n": 4, "psi": -0.1}, "psi=-0.1 must be at least 0"),
        ({"n": 4, "batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"n": 4, "start": -1}, "start=-1 must be at least 0"),
        ({"n": 4, "label": 3}, "label 3 is out of range: this generator has classes 0 to 2"),
        ({"n": 4, "label": -1}, "label -1 is out of range"),
        ({"n": 4, "label": [0, 1, 7, 2]}, "label 7 is out of range"),
        ({"n": 4, "label": [0, 1]}, "2 labels for n=4 samples"),
        ({"n": 4, "label": "sock"}, r"no class 'sock'; have \['boot', 'shirt', 'bag'\]"),
    ],
)
def test_what_cannot_be_sampled_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        gan(conditional()).sample(**arguments)


@pytest.mark.parametrize("label", [0, "boot", [0, 0]])
def test_a_label_of_an_unconditional_generator_is_refused(label: Any) -> None:
    with pytest.raises(UserError, match="trained without classes; leave label out"):
        gan(MLPGenerator()).sample(2, label)


def test_label_rows() -> None:
    assert label_rows(3, 2) == [0, 0, 1, 1, 2, 2]
    assert label_rows(0, 2) is None
    assert label_rows(100, 5) == [i for i in range(20) for _ in range(5)]
