"""The vision workbench: spaces, networks, costs, module outputs, rankings, splits, files."""

import random
import tarfile
from itertools import takewhile
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kendalltau
from torch import nn

from stillhouse.core.data import find_public_file
from stillhouse.core.errors import UserError
from stillhouse.vision import public_images
from stillhouse.vision.cells import (
    OPERATIONS,
    CellNetwork,
    cell_description,
    cell_of,
    described_cell,
    live_cost,
    live_edges,
    string_of,
)
from stillhouse.vision.classes import balanced, class_batch, class_splits
from stillhouse.vision.costs import latency_seconds, macs, parameters
from stillhouse.vision.images import ImageData, load_images
from stillhouse.vision.maps import last_map_name, map_names, stage_map_names, watched
from stillhouse.vision.model_files import load_classifier, require_fit, save_classifier
from stillhouse.vision.ranking import (
    PairTable,
    bootstrap,
    partial_tau,
    rank_sum,
    regret,
    spearman,
    tau,
    tau_at_equal_cost,
)
from stillhouse.vision.resnets import CifarResNet, released_resnet
from stillhouse.vision.soft_outputs import cached_teacher
from stillhouse.vision.spaces import load_space, space_of
from stillhouse.vision.teachers import open_classifier
from stillhouse.vision.training import Recipe, draw, logits_of, rate_share

DENSE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
CUT = "|none~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|nor_conv_3x3~1|none~2|"


def some_images(count=40, classes=4, size=8, channels=1, seed=0):
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, size, size, generator=rng) * 2 - 1
    return ImageData("made up", images, torch.arange(count) % classes, tuple("abcdefghij"[:classes]))


def test_a_cells_string_is_read_and_written():
    cell = cell_of(DENSE)
    assert cell[3] == "skip_connect" and string_of(cell) == DENSE
    assert described_cell(cell_description(cell)) == cell
    for wrong in ("", DENSE[:-20], DENSE.replace("skip_connect", "nor_conv_7x7"), DENSE.replace("~2", "~1")):
        with pytest.raises(UserError, match="no cell"):
            cell_of(wrong)


def test_live_edges_lie_on_a_path():
    assert live_edges(cell_of(DENSE)) == (True,) * 6 and live_cost(cell_of(DENSE)) == 45
    assert live_edges(cell_of(CUT)) == (False,) * 6
    hanging = cell_of("|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    assert live_edges(hanging) == (False, False, False, True, False, False) and live_cost(hanging) == 9


def test_live_cost_of_random_cells_is_what_gradients_say():
    from stillhouse.methods.diswot.proxies import synflow
    from stillhouse.vision.classes import Batch

    rng, batch = random.Random(0), Batch(torch.zeros(2, 1, 8, 8), torch.arange(2))
    rest = macs(CellNetwork(1, 4, ("none",) * 6, 4, 1), batch.shape)
    one = 4 * 4 * 64  # a 1 x 1 convolution; every stage costs the same
    connected = 0
    for _ in range(25):
        cell = tuple(rng.choice(OPERATIONS) for _ in range(6))
        score, live = synflow(CellNetwork(1, 4, cell, 4, 1), batch)
        if any(live_edges(cell)):
            connected += 1
            assert live - rest == 3 * one * live_cost(cell)
        else:
            assert score == -float("inf")
    assert connected > 10


@pytest.mark.parametrize("name", ["cells", "resnets", "mobilenets"])
def test_built_in_spaces(name):
    space, rng = load_space(name), random.Random(1)
    one, other = space.sample(rng), space.sample(rng)
    for description in (one, other, space.mutate(one, rng), space.cross(one, other, rng)):
        assert set(description) == set(space.choices)
        network = space.build(description, 1, 4)
        assert network(torch.zeros(2, 1, 12, 12)).shape == (2, 4)
    mutated = space.mutate(one, rng)
    assert sum(one[option] != mutated[option] for option in one) == 1
    crossed = space.cross(one, other, rng)
    assert all(crossed[option] in (one[option], other[option]) for option in one)


def test_the_cell_space_is_that_of_nas_bench_201():
    space = load_space("cells")
    assert space.size == 15_625
    strings = {string_of(described_cell(d)) for d in space.all()}
    assert len(strings) == 15_625 and DENSE in strings


def own_space(channels: int, classes: int, *, depth: Literal[1, 2] = 1, width: Literal[4, 8] = 4) -> nn.Module:
    layers = [nn.Conv2d(channels if i == 0 else width, width, 3, padding=1) for i in range(depth)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def untyped(channels, classes, *, depth=1):
    return nn.Identity()


def test_a_space_of_ones_own_is_a_function():
    space = load_space("test_vision:own_space")
    assert space.size == 4 and space.choices == {"depth": (1, 2), "width": (4, 8)}
    assert parameters(space.build({"depth": 2, "width": 4}, 1, 3)) == 40 + 148 + 15
    with pytest.raises(UserError, match="width=5"):
        space.build({"width": 5}, 1, 3)
    for wrong, said in (
        ("nowhere", "no space"),
        ("test_vision:nothing", "no space at"),
        ("test_vision:untyped", "not typed"),
    ):
        with pytest.raises(UserError, match=said):
            load_space(wrong)
    with pytest.raises(UserError, match="no keyword-only"):
        space_of(nn.Linear)


def test_costs_by_hand():
    network = own_space(1, 3, depth=1, width=4)
    assert macs(network, (1, 8, 8)) == 9 * 4 * 64 + 4 * 3
    assert network.training and latency_seconds(network, (1, 8, 8)) > 0


def test_maps_are_found():
    network = own_space(1, 3, depth=2, width=4)
    assert map_names(network, (1, 8, 8)) == ["0", "1"] and last_map_name(network, (1, 8, 8)) == "1"
    resnet = CifarResNet(1, 4, (1, 1, 1), (4, 8, 16))
    assert last_map_name(resnet, (1, 8, 8)) == "layer3"
    assert stage_map_names(resnet, (1, 8, 8)) == ["layer1", "layer2", "layer3"]
    with watched(resnet, ["layer2"]) as seen:
        resnet(torch.zeros(2, 1, 8, 8))
    assert seen["layer2"].shape == (2, 8, 4, 4)
    with pytest.raises(UserError, match="no module 'layer9'"), watched(resnet, ["layer9"]):
        pass
    with pytest.raises(UserError, match="no feature maps"):
        last_map_name(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), (1, 8, 8))


def test_rankings_by_hand():
    assert tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert tau([1, 1, 1], [1, 2, 3]) == 0 == spearman([1, 1], [2, 3])
    assert spearman([-np.inf, 1, 2], [0.1, 0.2, 0.3]) == pytest.approx(1)
    # only the pairs (0, 1) and (2, 3) cost the same; one agrees, one does not
    assert tau_at_equal_cost([1, 2, 9, 8], [1, 2, 3, 4], [10, 10, 99, 99]) == 0
    assert tau_at_equal_cost([1, 2, 8, 9], [1, 2, 3, 4], [10, 10, 99, 99]) == 1
    assert np.isnan(tau_at_equal_cost([1, 2], [1, 2], [1, 9]))
    assert regret([3, 2, 1], [0.5, 0.9, 0.7], [5, 1, 1], bound=9) == pytest.approx(0.4)
    assert regret([3, 2, 1], [0.5, 0.9, 0.7], [5, 1, 1], bound=2) == 0
    with pytest.raises(ValueError, match="under the bound"):
        regret([1], [1], [5], bound=1)
    assert rank_sum({"a": [1, 2, 3], "b": [100, 0, 50]}).tolist() == [1, 0.5, 1.5]


def test_a_score_that_is_cost_says_nothing_at_fixed_cost():
    rng = np.random.default_rng(0)
    cost = rng.permutation(200).astype(float)
    truth = cost + rng.normal(size=200) * 20
    assert tau(cost, truth) > 0.6 and abs(partial_tau(cost, truth, cost)) < 1e-6
    knowing = truth + rng.normal(size=200)
    assert partial_tau(knowing, truth, cost) > 0.8


def test_pair_table_is_kendalls_tau_and_its_bootstrap_covers_it():
    rng = np.random.default_rng(1)
    scores, truth = rng.integers(10, size=80), rng.integers(10, size=80)
    table = PairTable(scores, truth)
    assert table.tau(np.ones(80)) == pytest.approx(kendalltau(scores, truth).statistic)
    low, high = bootstrap(table.tau, 80, 200)
    assert low < table.tau(np.ones(80)) < high < 0.5


def test_splits_keep_the_published_test_part():
    data = some_images(40)
    published = ImageData(data.name, data.images, data.labels, data.class_names, test=torch.arange(40) >= 30)
    splits = class_splits(published, most=8)
    assert splits.report.images.equal(data.images[30:])
    assert len(splits.train) == 8 and splits.train.labels.bincount().tolist() == [2, 2, 2, 2]
    rows = {tuple(image.flatten().tolist()) for part in (splits.train, splits.select) for image in part.images}
    assert len(rows) == 8 + len(splits.select)
    with pytest.raises(UserError, match="one class"):
        class_splits(some_images(classes=1))


def test_batches_are_even_over_classes():
    data = some_images(40)
    assert balanced(data, 10, 0).labels.bincount().tolist() in (
        [3, 3, 2, 2],
        [2, 3, 3, 2],
        [3, 2, 2, 3],
        [2, 2, 3, 3],
        [3, 2, 3, 2],
        [2, 3, 2, 3],
    )
    only = data.take(torch.nonzero(data.labels == 1)[:, 0])
    with pytest.raises(UserError, match="one class only"):
        class_batch(only, 8, 0)


def test_the_rate_rises_and_falls():
    recipe = Recipe(updates=100, warm_up=0.1)
    shares = [rate_share(update, recipe) for update in range(100)]
    assert shares[0] == pytest.approx(0.1) and max(shares) == shares[9] == 1 and shares[-1] < 0.01


def test_cached_outputs_are_the_networks_own():
    data = some_images(40)
    network = CifarResNet(1, 4, (1, 1, 1), (4, 8, 8)).eval()
    torch.manual_seed(0)
    step = draw(data, Recipe(batch=16, shift=0, mirror=True))
    assert bool(step.mirror.any()) and not bool(step.mirror.all())
    assert torch.allclose(cached_teacher(network, data)(step), logits_of(network, step.images), atol=1e-5)


def test_a_classifier_is_saved_and_loaded(tmp_path):
    space = load_space("resnets")
    description = {"blocks1": 1, "blocks2": 1, "blocks3": 1, "width": 8}
    network = space.build(description, 1, 4)
    save_classifier(network, "resnets", description, (1, 8, 8), tuple("abcd"), tmp_path)
    images = torch.randn(3, 1, 8, 8)
    loaded = open_classifier(str(tmp_path), (1, 8, 8), tuple("abcd"))
    assert loaded(images).equal(network.eval()(images))
    for shape, names, said in (
        ((3, 8, 8), tuple("abcd"), "images of 1 x 8 x 8"),
        ((1, 8, 8), tuple("abdc"), "knows the classes"),
    ):
        with pytest.raises(UserError, match=said):
            open_classifier(str(tmp_path), shape, names)
    (tmp_path / "network.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match="no whole classifier"):
        load_classifier(tmp_path)
    with pytest.raises(UserError, match="no classifier at"):
        open_classifier(str(tmp_path / "none"), (1, 8, 8), tuple("abcd"))


def test_a_transformers_classifier_is_opened(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_labels=4,
    )
    ViTForImageClassification(config).save_pretrained(tmp_path)
    opened = open_classifier(str(tmp_path), (1, 8, 8), tuple("abcd"))
    assert opened(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
    with pytest.raises(UserError, match="the data has 3 classes"):
        open_classifier(str(tmp_path), (1, 8, 8), tuple("abc"))
    with pytest.raises(UserError, match="does not take images of 1 x 16 x 16"):
        open_classifier(str(tmp_path), (1, 16, 16), tuple("abcd"))


def test_a_classifier_that_gives_nan_is_refused():
    network = CifarResNet(1, 4, (1, 1, 1), (4, 8, 8))
    network.linear.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        require_fit(network, (1, 8, 8), 4, "it")


def test_cifar_is_read_from_its_archive(tmp_path, monkeypatch):
    folder = tmp_path / "cifar10_jpeg"
    folder.mkdir()
    with tarfile.open(folder / "cifar10_jpeg.tar.gz", "w:gz") as archive:
        for i, part in enumerate(("train", "train", "test")):
            picture = tmp_path / f"{i}.jpg"
            Image.fromarray(np.full((32, 32, 3), 80 * i, np.uint8)).save(picture)
            archive.add(picture, f"{part}/{'frog' if i else 'truck'}/{i:04d}.jpg")
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path))
    data = load_images("cifar10")
    assert data.images.shape == (3, 3, 32, 32) and data.test.tolist() == [True, False, False]
    assert data.labels.tolist() == [6, 6, 9]
    assert float((data.images[0] - (160 / 127.5 - 1)).abs().max()) < 0.02
    (folder / "cifar10_jpeg.tar.gz").write_bytes(b"cut off")
    with pytest.raises(UserError, match="cannot be read"):
        public_images.cifar10()


def test_released_weights_are_refused_by_name():
    with pytest.raises(UserError, match="no released network"):
        released_resnet("resnet99-cifar10")


def test_released_resnet_knows_cifar(public_data):
    archive = find_public_file(public_images.CIFAR_FILE)
    pictures = takewhile(lambda picture: picture[0].startswith("test/"), public_images._pictures(archive))
    few = [(name.split("/")[1], pixels) for i, (name, pixels) in enumerate(pictures) if i % 40 == 0]
    images = torch.from_numpy(np.stack([pixels for _, pixels in few])).permute(0, 3, 1, 2) / 127.5 - 1
    labels = torch.tensor([public_images.CIFAR_NAMES.index(name) for name, _ in few])
    right = float((logits_of(released_resnet("resnet20-cifar10"), images).argmax(1) == labels).float().mean())
    assert len(few) == 250 and right > 0.75  # JPEG of quality 75 costs about ten points
