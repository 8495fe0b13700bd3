"""Similar tasks: metrics against closed forms, weights and losses against their identities, sources and labels a user may give."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import multivariate_normal, spearmanr
from torch import nn

import stillhouse
from rows import ROWS
from stillhouse.core.errors import UserError
from stillhouse.core.seeding import seed_everything
from stillhouse.methods.similar_tasks import Config
from stillhouse.methods.similar_tasks.arms import Adapted, load_body, replace_head
from stillhouse.methods.similar_tasks.drawer import open_drawer, score_drawer, weights_of
from stillhouse.methods.similar_tasks.fixmatch import consistency, kernels_and_rest, rate_share
from stillhouse.methods.similar_tasks.losses import (
    SimilarTasks,
    SoftTargets,
    relative_entropy_of,
    soft_cross_entropy,
    softened,
    temperature_for,
)
from stillhouse.methods.similar_tasks.ranking import MEASURES, half_sample, judge_of, order, score_sources
from stillhouse.methods.similar_tasks.target import load_target
from stillhouse.methods.similar_tasks.weights import (
    above_chance,
    effective_number,
    nearest_weights,
    power_weights,
    shared_votes,
    softmax_weights,
    top,
)
from stillhouse.vision import similarity
from stillhouse.vision.augmentation import OPERATIONS, cut_out, rand_augmented
from stillhouse.vision.classes import of_classes
from stillhouse.vision.few_labels import HIDDEN, hide_labels, read_few_labels
from stillhouse.vision.images import DIGIT_NAMES, ImageData, load_images
from stillhouse.vision.model_files import save_classifier
from stillhouse.vision.plain import plain
from stillhouse.vision.source_tasks import parse_network, shares_images
from stillhouse.vision.sources import Outputs, log_probabilities, look, open_source, open_sources, torch_source
from stillhouse.vision.training import StepImages
from test_vision import some_images


def clustered(a_class=(12, 12, 12, 12, 12), width=10, apart=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(a_class)), a_class)
    features = rng.normal(size=(len(labels), width))
    features[:, : len(a_class)] += apart * similarity.onehot(labels)
    return features, labels


# --- metrics ---


@pytest.mark.parametrize("a_class", [(12, 12, 12, 12, 12), (30, 10), (20, 5, 9)])
def test_parc_is_an_auc_with_a_ceiling(a_class):
    features, labels = clustered(a_class)
    share = similarity.same_class(labels).mean()
    expected = 100 * (3 * share * (1 - share)) ** 0.5 * similarity.auc(features, labels)
    assert similarity.parc(features, labels) == pytest.approx(expected, rel=1e-4)


def test_parc_is_spearman_of_the_two_distance_matrices():
    features, labels = clustered()
    z = similarity.standardised(similarity.principal(features))
    two = [1 - np.corrcoef(rows)[np.triu_indices(len(rows), 1)] for rows in (z, similarity.onehot(labels))]
    # the label distances are two numbers; rounding keeps floating point from breaking their ties
    assert similarity.parc(features, labels) == pytest.approx(100 * spearmanr(two[0], two[1].round(9)).statistic)


def test_closeness_counts_pairs():
    distances, same = np.array([1.0, 2.0, 3.0, 2.0]), np.array([True, True, False, False])
    # same-class pairs 1, 2 against 3, 2: three wins and a tie of four
    assert similarity.closeness(distances, same) == pytest.approx(2 * 3.5 / 4 - 1)


def test_whitening_makes_components_count_alike():
    features, labels = clustered(width=6)
    scaled = features @ np.diag([1, 10, 100, 0.1, 1, 5])
    assert similarity.auc(scaled, labels) == pytest.approx(similarity.auc(features * [1, 10, 100, 0.1, 1, 5], labels))
    assert similarity.auc_plain(scaled, labels) != pytest.approx(similarity.auc_plain(features, labels), abs=1e-3)


def test_cka_of_a_rotation_is_one_and_the_unbiased_one_of_noise_is_nothing():
    features, _ = clustered()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(10, 10)))[0]
    assert similarity.cka(features, 3 * features @ rotation) == pytest.approx(1)
    assert similarity.debiased_cka(features, 3 * features @ rotation) == pytest.approx(1)
    rng = np.random.default_rng(2)
    noise = [
        (similarity.cka(a, b), similarity.debiased_cka(a, b))
        for a, b in ((rng.normal(size=(40, 100)), rng.normal(size=(40, 100))) for _ in range(20))
    ]
    biased, unbiased = np.mean(noise, 0)
    assert biased > 0.5 and abs(unbiased) < 0.03


def test_logme_is_the_best_evidence_of_bayesian_regression():
    features, labels = clustered(width=8)
    grid = np.geomspace(0.05, 500, 40)
    n, best = len(labels), []
    for target in similarity.onehot(labels).T:
        evidence = [
            multivariate_normal(np.zeros(n), np.eye(n) / beta + features @ features.T / alpha).logpdf(target)
            for alpha in grid[::3]
            for beta in grid[::3]
        ]
        best.append(max(evidence) / n)
    assert similarity.logme(features, labels) == pytest.approx(np.mean(best), abs=0.02)
    assert similarity.logme(features, labels) >= np.mean(best) - 1e-3  # the fixed point is no worse than the grid


def test_leep_and_nce_of_certain_guesses_are_minus_the_conditional_entropy():
    labels = np.array([0, 0, 1, 1, 1, 2])
    guesses = np.eye(4)[[0, 0, 0, 1, 1, 2]]  # the fourth source class is never used
    # H(y | z): z = 0 has labels 0, 0, 1; z = 1 and z = 2 are pure
    expected = 0.5 * (2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert similarity.nce(guesses, labels) == pytest.approx(expected)
    assert similarity.leep(guesses, labels) == pytest.approx(expected)


def test_leep_of_a_source_that_says_the_same_of_all_is_the_entropy_of_the_labels():
    labels = np.arange(30) % 5
    assert similarity.leep(np.tile([0.7, 0.2, 0.1], (30, 1)), labels) == pytest.approx(-math.log(5))


def test_h_score_of_classes_without_spread_is_their_number_less_one():
    labels = np.arange(40) % 4
    assert similarity.h_score(similarity.onehot(labels), labels) == pytest.approx(3, rel=0.03)


def test_one_nearest_neighbour_leaves_the_image_itself_out():
    features, labels = clustered(width=5, apart=30)
    assert similarity.nearest_neighbour(features, labels) == 1
    assert similarity.nearest_neighbour(features, np.random.default_rng(0).permutation(labels)) < 0.5


def test_rsa_with_itself_is_complete():
    features, _ = clustered()
    z = similarity.principal(features)
    assert similarity.rsa(features, z) == pytest.approx(100)


@pytest.mark.parametrize("measure", [similarity.auc, similarity.parc, similarity.auc_plain, similarity.logme])
def test_constant_features_are_undefined_and_never_a_middling_score(measure):
    with pytest.raises(similarity.Undefined, match="constant"):
        measure(np.full((20, 6), 0.3), np.arange(20) % 4)


def test_one_label_a_class_has_no_pairs():
    with pytest.raises(similarity.Undefined, match="no two labelled"):
        similarity.auc(np.random.default_rng(0).normal(size=(5, 8)), np.arange(5))


# --- weights ---

SCORES = np.array([0.28, 0.24, 0.20, 0.15, 0.10, 0.05, 0.02, -0.01])


def test_power_weights_have_their_effective_numbers():
    assert [round(effective_number(power_weights(SCORES, p)), 1) for p in (1, 3, 9)] == [5.1, 3.1, 1.6]
    assert effective_number(power_weights(SCORES, 0)) == pytest.approx(7)  # the negative one is out first
    assert power_weights(SCORES, 3) == pytest.approx(power_weights(1000 * SCORES, 3))
    assert power_weights(SCORES, 2)[-1] == 0  # an even power does not reward it


def test_an_infinite_power_is_the_nearest_source():
    assert (power_weights(SCORES, math.inf) == nearest_weights(SCORES)).all()
    assert not power_weights(-np.abs(SCORES), math.inf).any()


def test_sources_within_chance_have_no_weight():
    similarity_left = above_chance(np.array([0.2, 0.05, np.nan]), np.zeros(3), np.full(3, 0.04), 2.0)
    assert similarity_left.tolist() == [0.2, 0.0, 0.0]
    published = above_chance(np.array([0.2, 0.05, -0.3]), np.zeros(3), np.full(3, 0.04), 0.0)
    assert published.tolist() == [0.2, 0.05, 0.0]


def test_copies_of_a_source_share_its_vote():
    weights = power_weights(np.array([0.3, 0.2]), 3)
    three = power_weights(np.array([0.3, 0.2, 0.2]), 3)
    alike = np.array([[1, 0.1, 0.1], [0.1, 1, 1], [0.1, 1, 1]])
    shared = shared_votes(three, alike, 0.9)
    assert shared[0] == pytest.approx(weights[0])
    assert shared[1] + shared[2] == pytest.approx(weights[1])
    assert (shared_votes(three, alike, 0) == three).all()


def test_top_and_softmax():
    assert (top(SCORES, 2) > 0).sum() == 2
    assert softmax_weights(SCORES, 0.5) == pytest.approx(softmax_weights(7 * SCORES, 0.5))
    assert softmax_weights(SCORES, 0.01)[0] == pytest.approx(1)
    assert softmax_weights(SCORES, 1.0)[-1] == 0


# --- losses ---


def test_one_label_space_makes_it_distillation_from_the_weighted_ensemble():
    rng = torch.Generator().manual_seed(0)
    one, other = (torch.rand(6, 4, generator=rng).softmax(1) for _ in range(2))
    logits = torch.rand(6, 4, generator=rng)
    apart = 0.3 * soft_cross_entropy(one, logits, 2.0) + 0.7 * soft_cross_entropy(other, logits, 2.0)
    assert apart == pytest.approx(float(soft_cross_entropy(0.3 * one + 0.7 * other, logits, 2.0)))


def test_soft_cross_entropy_is_least_at_the_source():
    targets = torch.tensor([[0.7, 0.2, 0.1]])
    logits = targets.log().requires_grad_()
    soft_cross_entropy(targets, logits, 1.0).backward()
    assert logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("sharpness", [0.3, 30.0])
def test_the_temperature_gives_the_entropy_that_is_asked_for(sharpness):
    logs = (sharpness * torch.randn(50, 20, generator=torch.Generator().manual_seed(0))).log_softmax(1)
    temperature = temperature_for(logs, 0.5)
    assert relative_entropy_of(softened(logs, temperature)) == pytest.approx(0.5, abs=0.01)


def a_step(count=8, hidden=4, seed=0):
    data = some_images(20, 3, seed=seed)
    rows = torch.arange(count)
    labels = data.labels[rows].clone()
    labels[-hidden:] = HIDDEN
    return StepImages(data.images[rows], labels, rows, torch.zeros(count, dtype=torch.bool))


def small_network():
    torch.manual_seed(0)
    return plain(1, 3, width=8)


def targets_of(weight, classes=5, seed=0):
    probabilities = torch.randn(20, classes, generator=torch.Generator().manual_seed(seed)).softmax(1)
    return SoftTargets(f"source {seed}", weight, probabilities, 1.0)


def test_without_sources_what_is_minimised_is_the_labels_alone():
    step = a_step()
    objective = SimilarTasks(small_network(), [], 0.3)
    losses = objective(step)
    expected = nn.functional.cross_entropy(small_network()(step.images)[:4], step.labels[:4])
    assert losses.keys() == {"labels"} and torch.equal(losses["labels"], expected)


def test_heads_start_at_the_uniform_guess_and_add_up():
    two = SimilarTasks(small_network(), [targets_of(0.25, 5), targets_of(0.75, 9, 1)], 0.4)
    losses = two(a_step())
    assert losses["sources"].item() == pytest.approx(0.6)  # every source's loss starts at log k / log k
    losses["sources"].backward()
    parts = two.heads.weight.grad.split([5, 9])
    alone = SimilarTasks(small_network(), [targets_of(0.75, 9, 1)], 0.4)
    alone(a_step())["sources"].backward()
    assert torch.equal(parts[1], alone.heads.weight.grad)


# --- FixMatch ---


def test_consistency_counts_masked_images_as_nothing():
    weak = torch.tensor([[9.0, 0.0], [0.1, 0.0]], requires_grad=True)
    strong = torch.tensor([[0.0, 1.0], [5.0, 0.0]], requires_grad=True)
    loss, mask, guess = consistency(weak, strong, 0.95)
    assert mask.tolist() == [1, 0] and guess.tolist() == [0, 0]
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(strong[:1], guess[:1]).item() / 2)
    loss.backward()
    assert weak.grad is None


def test_fixmatch_rate_and_decay():
    assert rate_share(0, 100) == 1 and rate_share(100, 100) == pytest.approx(math.cos(7 * math.pi / 16))
    groups = kernels_and_rest(small_network(), 5e-4)
    assert all(p.ndim > 1 for p in groups[0]["params"]) and groups[1]["weight_decay"] == 0
    assert sum(len(g["params"]) for g in groups) == len(list(small_network().parameters()))


@pytest.mark.parametrize("channels", [1, 3])
def test_strong_changes_stay_images(channels):
    images = torch.rand(40, channels, 12, 12) * 2 - 1
    for operation in OPERATIONS:
        changed = operation((images + 1) / 2, torch.rand(40))
        assert changed.shape == images.shape and changed.min() >= -1e-6 and changed.max() <= 1 + 1e-6
    seed_everything("strong")
    changed = cut_out(rand_augmented(images))
    assert changed.shape == images.shape and not torch.equal(changed, images) and changed.abs().max() <= 1


# --- sources ---


def saved_plain(folder, name="net", classes=4, size=8, channels=1, seed=0):
    torch.manual_seed(seed)
    network = plain(channels, classes, width=8)
    save_classifier(network, "plain", {"width": 8}, (channels, size, size), tuple("abcdefgh"[:classes]), folder / name)
    return network


def saved_onnx(path, network, size=8, channels=1):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, channels, size, size),),
            path,
            input_names=["images"],
            dynamic_axes={"images": {0: "n"}},
            dynamo=False,
        )


def test_an_onnx_file_says_what_its_network_says(tmp_path):
    network = saved_plain(tmp_path)
    saved_onnx(tmp_path / "net.onnx", network)
    images = some_images(20).images
    one, other = (look(open_source(tmp_path / name), images) for name in ("net", "net.onnx"))
    assert torch.allclose(one.features, other.features, atol=1e-4)
    assert torch.allclose(one.log_probabilities, other.log_probabilities, atol=1e-2)


def test_a_transformers_folder_is_a_source(tmp_path):
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5)
    model = ResNetForImageClassification(config)
    model.save_pretrained(tmp_path / "resnet")
    (tmp_path / "resnet" / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    source = open_source(tmp_path / "resnet")
    seen = look(source, some_images(6).images)  # grey, 8 x 8
    assert source.shape == (3, 32, 32) and seen.features.shape == (6, 16) and seen.classes == 5


def test_probabilities_are_not_softened_twice():
    probabilities = torch.tensor([[0.9, 0.1], [0.5, 0.5]])
    assert torch.allclose(log_probabilities(probabilities).exp(), probabilities)
    assert torch.allclose(log_probabilities(torch.tensor([[2.0, 1.0]])), torch.tensor([[2.0, 1.0]]).log_softmax(1))


def test_what_cannot_be_a_source_is_named(tmp_path):
    from onnx import TensorProto, helper, save_model

    saved_plain(tmp_path)
    nodes = [helper.make_node("Strange", ["x"], ["h"], domain="my.ops"), helper.make_node("Gemm", ["h", "w"], ["y"])]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy")
    w = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [0.0] * 16)
    graph = helper.make_graph(nodes, "g", [x], [y], [w])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("my.ops", 1)]
    save_model(helper.make_model(graph, opset_imports=domains), tmp_path / "custom.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no onnx")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "network.json").write_text("{}")
    found, unusable = open_sources(tmp_path)
    assert [source.name for source in found] == ["net"]
    told = {one.name: one.why for one in unusable}
    assert told.keys() == {"custom.onnx", "broken.onnx", "torn"}
    assert "custom operators of my.ops" in told["custom.onnx"]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda n: nn.init.constant_(n.classifier.weight, float("nan")), "not finite"),
        (lambda n: [nn.init.zeros_(p) for p in n.body.parameters()], "constant features"),
        (lambda n: nn.init.zeros_(n.classifier.weight), "same class scores"),
    ],
)
def test_a_source_that_says_nothing_is_named_and_has_no_weight(break_it, said):
    images, labels = clustered_images()
    good, bad = small_network(), small_network()
    torch.manual_seed(3)
    break_it(bad)
    outputs = [look(torch_source(name, network, None), images) for name, network in (("good", good), ("bad", bad))]
    problems = [output.problem() for output in outputs]
    assert not problems[0] and said in problems[1]
    scores = score_sources(["good", "bad"], outputs, problems, labels, "auc_plain")
    weights = weights_of(scores, np.eye(2), Config())
    assert order(scores) == [0, 1] and weights.tolist() == [1, 0] and scores[1].why == problems[1]


def clustered_images(count=40):
    labels = np.arange(count) % 4
    rng = torch.Generator().manual_seed(0)
    bright = torch.from_numpy(labels).float()[:, None, None, None] / 2 - 0.8
    return (bright + 0.1 * torch.randn(count, 1, 8, 8, generator=rng)).clamp(-1, 1), labels


def test_half_samples_keep_pairs_and_draw_nothing_twice():
    labels = np.repeat(np.arange(3), [2, 5, 9])
    half = half_sample(labels, 0)
    assert len(set(half)) == len(half)
    assert np.bincount(labels[half]).min() >= 2


def test_one_label_a_class_is_an_error_that_names_the_way_out():
    outputs = [Outputs(torch.randn(4, 8), torch.randn(4, 3).log_softmax(1))]
    with pytest.raises(UserError, match="two labels a class"):
        score_sources(["only"], outputs, [""], np.arange(4), "auc")
    assert score_sources(["only"], outputs, [""], np.arange(4), "leep")[0].value < 0


# --- few labels ---


def picture(path, value, size=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(value)
    Image.fromarray(rng.integers(0, 255, (size, size), dtype=np.uint8)).save(path)


def label_file(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("file", "label"), *rows])
    return path


def a_folder(tmp_path, count=16):
    folder = tmp_path / "photos"
    for i in range(count):
        picture(folder / f"{i:02}.png", i)
    rows = [(f"{i:02}.png", "cat" if i % 2 else "dog") for i in range(8)]
    return folder, label_file(tmp_path / "labels.csv", rows)


def test_labels_are_hidden_and_nothing_is_in_two_places():
    data = load_images("digits")
    few = hide_labels(data, 3, seed=1, most=200)
    assert few.labelled == 30 and (few.pool.labels[30:] == HIDDEN).all() and len(few.pool) == 200
    assert torch.bincount(few.shown.labels).tolist() == [3] * 10
    assert torch.equal(few.truth[:30], few.shown.labels)
    again = hide_labels(data, 3, seed=2, most=200)
    assert torch.equal(few.report.images, again.report.images) and not torch.equal(few.shown.images, again.shown.images)


def test_a_label_file_makes_a_pool_and_broken_and_copied_pictures_are_named(tmp_path):
    folder, labels = a_folder(tmp_path)
    (folder / "torn.png").write_bytes((folder / "00.png").read_bytes()[:60])
    (folder / "copy.png").write_bytes((folder / "03.png").read_bytes())
    few = read_few_labels(folder, labels, "", 0, None, None)
    assert few.labelled + len(few.report) == 8 and len(few.pool) + len(few.report) == 16
    assert len(few.skipped) == 2 and any("torn.png" in line for line in few.skipped)
    assert any("copy.png is a copy of 03.png" in line for line in few.skipped)


def test_test_images_that_are_in_the_pool_leave_it(tmp_path):
    folder, labels = a_folder(tmp_path)
    for name in ("cat", "dog"):
        picture(tmp_path / "test" / name / "new.png", 100 + len(name) + ord(name[0]))
    (tmp_path / "test" / "cat" / "seen.png").write_bytes((folder / "12.png").read_bytes())
    few = read_few_labels(folder, labels, str(tmp_path / "test"), 0, None, None)
    assert len(few.pool) == 15 and len(few.report) == 3 and "also among the test images" in few.skipped[-1]


@pytest.mark.parametrize(
    ("rows", "test_class", "said"),
    [
        ([("00.png", "dog"), ("99.png", "cat")], "", "99.png, which is not in"),
        ([("00.png", "dog"), ("01.png", "dog")], "", "labels 1 class"),
        ([("00.png", "dog"), ("00.png", "cat")], "", "the labels dog and cat"),
        ([("00.png", "dog"), ("01.png", "")], "", "line 3 of labels.csv"),
        ([("00.png", "dog"), ("01.png", "cat")], "cow", "class 'cow' of .* has no labelled image"),
        ([("00.png", "dog"), ("01.png", "cat")], "", "no class has two labelled images"),
    ],
)
def test_labels_that_do_not_fit_are_one_line(tmp_path, rows, test_class, said):
    folder, labels = a_folder(tmp_path)
    label_file(labels, rows)
    if test_class:
        for name in ("dog", test_class):
            picture(tmp_path / "test" / name / "a.png", 50 + len(name) + ord(name[0]))
    with pytest.raises(UserError, match=said):
        read_few_labels(folder, labels, str(tmp_path / "test") if test_class else "", 0, None, None)


def test_the_same_picture_with_two_labels_is_an_error(tmp_path):
    folder, labels = a_folder(tmp_path)
    (folder / "01.png").write_bytes((folder / "00.png").read_bytes())
    with pytest.raises(UserError, match="same picture with the labels dog and cat"):
        read_few_labels(folder, labels, "", 0, None, None)


# --- tasks, networks, arms ---


def test_the_targets_own_images_are_no_source():
    digits = some_images(10)
    digits = ImageData("mnist-5k", digits.images, digits.labels, DIGIT_NAMES)
    assert shares_images("mnist", digits) and shares_images("mnist-5k", digits)
    assert not shares_images("digits", digits) and not shares_images("typed-digits", digits)


def test_class_patterns():
    data = of_classes(load_images("typed-digits", size=8), ("1", "[78]"))
    assert data.class_names == ("1", "7", "8") and set(data.labels.tolist()) == {0, 1, 2}
    with pytest.raises(UserError, match="no class 'x'"):
        of_classes(data, ("x",))


def test_networks_by_name():
    assert parse_network("resnets blocks1=1 width=8") == ("resnets", {"blocks1": 1, "width": 8})
    for wrong in ("resnets blocks1=2", "resnets depth=1", "resnets width", "nothing"):
        with pytest.raises(UserError):
            parse_network(wrong)


def test_a_body_is_loaded_and_a_head_replaced():
    one, other = small_network(), plain(1, 7, width=8)
    head = one.classifier.weight.clone()
    load_body(one, other)
    assert torch.equal(one.body[0].weight, other.body[0].weight) and torch.equal(one.classifier.weight, head)
    replace_head(other, 3)
    assert Adapted(other, (1, 8, 8))(torch.zeros(2, 3, 20, 20)).shape == (2, 3)


TINY = {**ROWS["similar_tasks"], "arms": ("nearest", "scratch")}


def test_an_infinite_power_trains_the_nearest_student(tmp_path):
    run = stillhouse.run(
        "similar_tasks",
        out=tmp_path / "run",
        quiet=True,
        **{**TINY, "power": math.inf, "similarity": "cka", "significance": 0.0},
    )
    weighted, nearest, _ = (arm for arm in run.result.arms if arm.role != "floor")
    assert weighted.name == "DistillWeighted" and nearest.name == "DistillNearest"
    assert weighted.metrics == nearest.metrics
    stages = {entry["stage"] for entry in run.records() if "sources" in entry}
    assert len(stages) == 1 and stages.pop().startswith("from-typed-")


def test_sources_like_chance_turn_distillation_off(tmp_path):
    run = stillhouse.run("similar_tasks", out=tmp_path / "run", quiet=True, **{**TINY, "significance": 1e6})
    by_name = {arm.name: arm for arm in run.result.arms}
    assert by_name["DistillWeighted"].metrics == by_name["labels alone"].metrics
    assert any("No source is more similar than chance" in note for note in run.result.notes)


def test_sources_rank_prints_the_order(tmp_path, capsys):
    from stillhouse.cli import dispatch

    saved_plain(tmp_path, "one", seed=1)
    saved_plain(tmp_path, "two", seed=2, size=12, channels=3)
    saved_plain(tmp_path, "twin", seed=1)
    options = ["--data", "digits", "--size", "8", "--images", "200", "--labels", "4", "--sources", str(tmp_path)]
    dispatch(["sources", "rank", *options])
    said = capsys.readouterr().out
    assert "one" in said and "two" in said and "twin (a copy of one)" in said
    dispatch(["similar_tasks", "rank", "--json", *options])
    told = json.loads(capsys.readouterr().out)
    assert {row["source"] for row in told["sources"]} == {"one", "two"}


def test_a_drawer_scores_and_weighs(tmp_path):
    config = Config(**{**TINY, "similarity": "cka", "significance": 0.0, "redundancy": 0.0})
    few = load_target(config)
    drawer = open_drawer(config, few)
    weights = weights_of(score_drawer(drawer, config), drawer.likeness(), config)
    assert weights.sum() == pytest.approx(1) and len(weights) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"similarity": "magic"}, "no similarity 'magic'"),
        ({"power": -1.0}, "power is -1"),
        ({"label_share": 0.0}, "label_share is 0"),
        ({"student": "plain width=7"}, "width of plain cannot be 7"),
        ({"test": "./x"}, "without label_file"),
        ({"sources": "./nowhere"}, "no folder of source models"),
        ({"labels": 5000}, "5000 labels are asked for"),
        ({"leave_out": ("none",)}, "no source 'none' to leave out"),
        ({"source_tasks": ("digits",)}, "no source model is left"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        stillhouse.run("similar_tasks", out=tmp_path / "run", quiet=True, **{**TINY, **options})


def test_a_judge_of_pairs_says_what_the_metric_says_and_keeps_its_distances():
    features, labels = clustered()
    probabilities = np.full((len(labels), 2), 0.5)
    everything = np.arange(len(labels))
    for metric in ("auc", "auc_plain", "parc"):
        judge = judge_of(metric, (features, probabilities))
        assert judge(labels, everything) == pytest.approx(MEASURES[metric](features, probabilities, labels))
    # half of the images: the mean over halves is the whole's, because their distances are the whole's
    judge = judge_of("auc", (features, probabilities))
    halves = [judge(labels, half_sample(labels, seed)) for seed in range(200)]
    assert np.mean(halves) == pytest.approx(judge(labels, everything), abs=0.02)


def test_students_can_start_from_the_nearest_source_of_their_network(tmp_path):
    run = stillhouse.run("similar_tasks", out=tmp_path / "run", quiet=True, **{**TINY, "initial": "nearest"})
    assert run.result.arm("student").metrics
    with pytest.raises(UserError, match="no source has the student's network"):
        stillhouse.run(
            "similar_tasks",
            out=tmp_path / "other",
            quiet=True,
            **{**TINY, "initial": "nearest", "student": "plain width=16"},
        )
