"""One view of every latent space: codes are samples, and moves that move nothing change nothing."""

from __future__ import annotations

import pytest
import torch
from latent_nets import Linear, Styled

from gan_kit.audio import WaveGANGenerator
from gan_kit.image import DCGANGenerator, R3GANGenerator, StyleGAN2Generator
from gan_kit.latent import Codes, Latent, Normal, Uniform, slerp
from gan_kit.trained import TrainedGAN
from gan_kit.types import DataSpec, UserError
from gan_kit.vector import MLPGenerator


def frozen(net):
    return net.eval().requires_grad_(False)


def r3gan(num_classes=3):
    return frozen(R3GANGenerator(8, 1, num_classes, 16, 8, widths=[8, 8], blocks=1, expansion=1, group_size=None))


def stylegan2(num_classes=0):
    net = StyleGAN2Generator(8, 1, num_classes, 8, 8, mapping_layers=2, channel_base=64, channel_max=8)
    net.w_mean.normal_()
    return frozen(net)


NETS = {
    "dcgan": lambda: frozen(DCGANGenerator(8, 1, 3, 12, width=4)),
    "r3gan": r3gan,
    "wavegan": lambda: frozen(WaveGANGenerator(256, num_classes=3, z_dim=10, width=2)),
    "mlp": lambda: frozen(MLPGenerator(num_classes=3, width=16)),
    "styled": lambda: Styled(3),
    "stylegan2": stylegan2,
}


@pytest.mark.parametrize("prior", [Normal(), Uniform()])
@pytest.mark.parametrize("name", ["dcgan", "r3gan", "wavegan", "mlp", "styled"])
def test_codes_are_the_samples(name, prior):
    net = NETS[name]()
    gan = TrainedGAN(net, prior, DataSpec((1, 8, 8), 3))
    latent = gan.latent()
    codes = latent.codes(5, seed=3, start=2)
    assert latent.decode(codes).equal(gan.sample(5, seed=3, start=2))
    assert latent.decode(latent.codes(5, 1, seed=3)).equal(gan.sample(5, 1, seed=3))


@pytest.mark.parametrize("name", NETS)
def test_a_path_goes_through_its_keys(name):
    latent = Latent(NETS[name](), Normal())
    keys = latent.codes(3, label=1 if latent.num_classes else None)
    path = latent.path(keys, 4)
    assert path[::4].values.equal(keys.values)
    assert (len(path), len(latent.path(keys, 4, loop=True))) == (9, 12)
    torch.testing.assert_close(latent.decode(path)[::4], latent.decode(keys), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NETS)
def test_the_batch_size_changes_nothing(name):
    latent = Latent(NETS[name](), Normal(), noise_seed=4)
    codes = latent.codes(7)
    torch.testing.assert_close(latent.codes(7, batch_size=2).values, codes.values, atol=2e-6, rtol=0)
    whole = latent.decode(codes)
    for size in (1, 3):
        torch.testing.assert_close(latent.decode(codes, size), whole, atol=2e-6, rtol=0)
    assert not whole[0].equal(whole[1])


def test_z_of_a_normal_prior_turns_and_of_a_box_goes_straight():
    codes = Latent(r3gan(), Normal()).codes(2, label=0)
    a, b = codes[:1], codes[1:]
    assert Latent(r3gan(), Normal()).between(a, b, 0.3).values.equal(slerp(a.values, b.values, 0.3))
    straight = Latent(r3gan(), Uniform()).between(a, b, 0.5).values
    torch.testing.assert_close(straight, (a.values + b.values) / 2)


# ---- classes ----


@pytest.mark.parametrize("name", ["dcgan", "r3gan", "wavegan"])
def test_between_classes_embeddings_blend(name):
    net = NETS[name]()
    latent = Latent(net, Normal())
    a, b = latent.codes(4, 0), latent.codes(4, 2)
    ends = latent.decode(a), latent.decode(b)
    soft = [Codes(a.values, torch.nn.functional.one_hot(c.y, 3).float()) for c in (a, b)]
    assert latent.decode(soft[0]).equal(ends[0])  # a weight of 1 is the class itself, bit for bit
    assert latent.decode(soft[1]).equal(ends[1])
    middle = latent.between(a, b, 0.5)
    assert middle.y.tolist() == [[0.5, 0, 0.5]] * 4
    before = net.embed.weight.clone()
    net.embed.weight[1] = (before[0] + before[2]) / 2
    expected = latent.decode(Codes(a.values, torch.ones(4, dtype=torch.long)))
    net.embed.weight.copy_(before)
    torch.testing.assert_close(latent.decode(middle), expected, atol=1e-6, rtol=0)
    assert latent.decode(a).equal(ends[0])  # nothing of it stays


def test_a_net_that_takes_whole_classes_says_so():
    latent = Latent(NETS["mlp"](), Normal())
    with pytest.raises(UserError, match=r"MLPGenerator does not read classes through an embedding.*label=3"):
        latent.decode(latent.between(latent.codes(1, 0), latent.codes(1, 1), 0.5))


def test_w_has_its_classes_in_it():
    latent = Latent(Styled(3), Normal())
    a, b = latent.codes(2, 0), latent.codes(2, 1)
    torch.testing.assert_close(latent.between(a, b, 0.5).values, (a.values + b.values) / 2)
    assert latent.decode(latent.path(Codes.joined([a, b])[[0, 2]], 3)).isfinite().all()


# ---- truncation ----


@pytest.mark.parametrize("centre", ["mean", "centroid"])
@pytest.mark.parametrize("name", ["r3gan", "styled"])
def test_psi_1_is_identity_and_psi_0_the_centre(name, centre):
    latent = Latent(NETS[name](), Normal())
    codes = latent.codes(6)
    assert latent.truncate(codes, 1.0, centre).values.equal(codes.values)
    at_0 = latent.truncate(codes, 0.0, centre).values
    again = latent.truncate(latent.codes(6, seed=9), 0.0, centre).values  # other samples of the same centres
    same = codes.y == latent.codes(6, seed=9).y
    assert at_0[same].equal(again[same])
    if name == "r3gan":
        assert not at_0.any()


def test_truncation_of_z_is_the_priors():
    for prior in (Normal(), Uniform()):
        gan = TrainedGAN(r3gan(), prior, DataSpec((1, 8, 8), 3))
        latent = gan.latent()
        truncated = latent.truncate(latent.codes(4), 0.6)
        assert latent.decode(truncated).equal(gan.sample(4, psi=0.6))


def test_truncation_of_w_is_stylegan2s():
    net = stylegan2()
    latent = Latent(net, Normal())
    codes = latent.truncate(latent.codes(4), 0.5)
    z = Latent(net, Normal(), "z").codes(4).values
    torch.testing.assert_close(codes.values, torch.lerp(net.w_mean, net.mapping(z), 0.5))
    with pytest.raises(UserError, match="truncates in w, not in z; use space=w"):
        Latent(net, Normal(), "z").truncate(Latent(net, Normal(), "z").codes(1), 0.5)


def test_without_a_kept_mean_w_has_that_of_many_codes_and_of_each_class_its_own():
    net = Styled(3)
    latent = Latent(net, Normal())
    mean = latent.truncate(latent.codes(1), 0.0).values[0, 0]
    torch.testing.assert_close(mean, latent.codes(20_000).values[:, 0].mean(0), atol=0.05, rtol=0)
    centroids = latent.truncate(latent.codes(3, [0, 1, 2]), 0.0, "centroid").values[:, 0]
    torch.testing.assert_close(centroids[1], latent.codes(20_000, 1).values[:, 0].mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(centroids.mean(0), mean, atol=0.05, rtol=0)
    with pytest.raises(UserError, match="none; use centre=mean"):
        Latent(stylegan2(), Normal()).truncate(latent.codes(1), 0.5, "centroid")


# ---- styles ----


@pytest.mark.parametrize("layers", ["coarse", "middle", "fine", "all", "2", "1-3"])
def test_mixing_with_the_same_source_is_identity(layers):
    latent = Latent(Styled(), Normal())
    a, b = latent.codes(3), latent.codes(3, seed=1)
    assert latent.mix(a, a, layers).values.equal(a.values)
    mixed = latent.mix(a, b, layers)
    chosen = latent.layers(layers)
    assert mixed.values[:, chosen].equal(b.values[:, chosen])
    rest = [i for i in range(4) if i not in range(4)[chosen]]
    assert mixed.values[:, rest].equal(a.values[:, rest])
    assert latent.mix(a, b, "all").values.equal(b.values)


def test_thirds_are_all_layers():
    latent = Latent(Styled(), Normal())
    covered = [i for third in ("coarse", "middle", "fine") for i in range(4)[latent.layers(third)]]
    assert covered == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "what, says",
    [
        (lambda: Latent(r3gan(), Normal(), "w"), "R3GANGenerator has no w, only z"),
        (lambda: Latent(r3gan(), Normal(), "v"), "no space 'v'; have auto, z, w"),
        (lambda: (lt := Latent(r3gan(), Normal())).mix(lt.codes(1), lt.codes(1), "all"), "mixes no styles"),
        (lambda: Latent(r3gan(), Normal()).layers("fine"), "z has no layers"),
        (lambda: Latent(Styled(), Normal()).layers("3-9"), "not within this generator's layers, 0 to 3"),
        (lambda: Latent(Styled(), Normal()).layers("finest"), "have all, coarse, middle"),
        (lambda: (lt := Latent(Styled(), Normal())).path(lt.codes(1), 3), "a path needs two codes"),
        (lambda: (lt := Latent(Styled(), Normal())).truncate(lt.codes(1), 1, "median"), "have mean, centroid"),
    ],
)
def test_refusals(what, says):
    with pytest.raises(UserError, match=says):
        what()


def test_a_move_is_a_vector_in_the_layers_asked_for():
    latent = Latent(Styled(), Normal())
    codes = latent.codes(2)
    step = torch.arange(5.0)
    moved = latent.move(codes, step, "1-2").values - codes.values
    torch.testing.assert_close(moved, torch.stack([0 * step, step, step, 0 * step]).expand(2, -1, -1))
    z = Latent(Linear(torch.eye(5)), Normal())
    torch.testing.assert_close(z.move(z.codes(2), step).values - z.codes(2).values, step.expand(2, -1))


def test_a_strength_of_1_is_a_standard_deviation():
    for space, prior in (("z", Normal()), ("z", Uniform()), ("w", Normal())):
        latent = Latent(Styled(), prior, space)
        v = torch.eye(latent.dims)
        values = latent.codes(20_000, seed=5).values
        drawn = (values if space == "z" else values[:, 0]).std(0)
        torch.testing.assert_close(latent.std(v), drawn, rtol=0.06, atol=0)
