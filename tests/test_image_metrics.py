"""Image metrics against closed forms and sets whose answer is known; the feature network; the evaluator."""

import math

import pytest
import torch
from torch import nn

from stillhouse.core.errors import UserError
from stillhouse.core.seeding import generator
from stillhouse.diffusion import metrics
from stillhouse.diffusion.features import Features, FeatureSettings, trained_features
from stillhouse.diffusion.metrics import (
    ImageEvaluator,
    class_accuracy,
    frechet_distance,
    gaussian_frechet_distance,
    kernel_distance,
    nearest_distances,
    nearest_neighbour_memorisation,
    precision_recall,
    symmetric_root,
)
from stillhouse.vision.augmentation import shifted
from stillhouse.vision.images import ImageData, Splits, load_images, split


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator("test", seed), dtype=torch.float64)


def rotation(angle):
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)


# ---- Frechet distance


def test_frechet_distance_of_gaussians_that_share_axes_is_exact():
    axes = rotation(0.7)
    a, b = (axes @ torch.diag(torch.tensor(v, dtype=torch.float64)) @ axes.T for v in ([4.0, 1.0], [1.0, 9.0]))
    shift = torch.tensor([3.0, -4.0])
    # per axis (s_a - s_b)^2: (2 - 1)^2 + (1 - 3)^2, and |shift|^2 = 25
    assert gaussian_frechet_distance(shift, a, torch.zeros(2), b) == pytest.approx(30, abs=1e-12)


def test_frechet_distance_of_gaussians_that_do_not_commute():
    a = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    b = rotation(0.5) @ torch.diag(torch.tensor([9.0, 0.25], dtype=torch.float64)) @ rotation(0.5).T
    # for 2 x 2, tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det A det B))
    overlap = math.sqrt(float((a @ b).trace()) + 2 * math.sqrt(float(a.det() * b.det())))
    expected = float(a.trace() + b.trace()) - 2 * overlap
    assert gaussian_frechet_distance(torch.zeros(2), a, torch.zeros(2), b) == pytest.approx(expected, abs=1e-12)


def test_frechet_distance_survives_singular_covariances():
    thin = torch.diag(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    other = torch.diag(torch.tensor([0.0, 4.0, 0.0], dtype=torch.float64))
    zero = torch.zeros(3)
    assert gaussian_frechet_distance(zero, thin, zero, other) == pytest.approx(5, abs=1e-12)
    assert gaussian_frechet_distance(zero, thin, zero, thin) == pytest.approx(0, abs=1e-12)
    points = normal(5, 40)  # fewer points than features
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(points, points + 1) == pytest.approx(40, abs=1e-8)


def test_eigenvalues_that_rounding_made_negative_count_as_zero():
    almost = torch.diag(torch.tensor([4.0, -1e-3], dtype=torch.float64))
    assert torch.equal(symmetric_root(almost), torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64)))


def test_frechet_distance_of_samples_approaches_that_of_their_gaussians():
    a, b = normal(40_000, 2, seed=1), normal(40_000, 2, seed=2) * torch.tensor([2.0, 1.0]) + torch.tensor([1.0, 0.0])
    assert frechet_distance(a, b) == pytest.approx(2, abs=0.05)


# ---- kernel distance


def test_kernel_distance_of_point_masses_is_exact():
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 3.0])
    # k(a, a) + k(b, b) - 2 k(a, b) with k = (x.y / 2 + 1)^3
    expected = 3.5**3 + 6**3 - 2 * 3.5**3
    assert kernel_distance(a.repeat(4, 1), b.repeat(7, 1)) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_equals_the_sum_over_pairs():
    a, b = normal(6, 3, seed=1), normal(5, 3, seed=2) + 1

    def kernel(x, y):
        return float((x @ y / 3 + 1) ** 3)

    within_a = sum(kernel(a[i], a[j]) for i in range(6) for j in range(6) if i != j) / 30
    within_b = sum(kernel(b[i], b[j]) for i in range(5) for j in range(5) if i != j) / 20
    between = sum(kernel(x, y) for x in a for y in b) / 30
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between, rel=1e-10)


def test_kernel_distance_is_unbiased():
    values = torch.tensor(
        [kernel_distance(normal(20, 4, seed=2 * i), normal(30, 4, seed=2 * i + 1)) for i in range(600)]
    )
    error = values.std() / math.sqrt(len(values))
    assert values.mean().abs() < 3 * error
    assert (values < 0).any() and error < 0.05


def test_kernel_distance_does_not_depend_on_chunks(monkeypatch):
    a, b = normal(50, 3, seed=1), normal(70, 3, seed=2) + 0.5
    whole = kernel_distance(a, b), precision_recall(a, b), nearest_distances(a, b).tolist()
    monkeypatch.setattr(metrics, "CHUNK_PAIRS", 300)
    assert kernel_distance(a, b) == pytest.approx(whole[0], rel=1e-12)
    assert precision_recall(a, b) == whole[1]
    assert nearest_distances(a, b).tolist() == pytest.approx(whole[2], rel=1e-12)


# ---- precision and recall


def test_precision_and_recall_of_known_sets():
    line = torch.arange(10.0)[:, None]
    assert precision_recall(line, line) == (1, 1)
    assert precision_recall(line, line + 1000) == (0, 0)
    # with k = 1 the real manifold is [-1, 10]; of 8, 10, 11, 13 two lie in it; the fakes' balls (widths 2, 1, 1, 2)
    # cover 6 to 15, so that of the reals 6, 7, 8, 9 are found
    assert precision_recall(line, torch.tensor([[8.0], [10.0], [11.0], [13.0]]), k=1) == (0.5, 0.4)


def test_dropped_modes_cost_recall_and_stray_samples_cost_precision():
    modes = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0], [100.0, 100.0]], dtype=torch.float64)
    real = modes.repeat(50, 1) + normal(200, 2, seed=1)
    some = modes[:1].repeat(200, 1) + normal(200, 2, seed=2)
    precision, recall = precision_recall(real, some)
    assert precision > 0.9 and 0.2 < recall <= 0.25
    assert precision_recall(some, real) == (recall, precision)


def test_copies_of_one_image_lie_in_the_manifold_of_an_identical_one():
    real = torch.cat([torch.zeros(5, 3), torch.ones(5, 3)])
    assert precision_recall(real, torch.zeros(8, 3)) == (1, 0.5)


# ---- copying, accuracy, bad input


def test_memorisation_of_copies_fresh_images_and_noise():
    train, held_out, fresh = (normal(n, 6, seed=n) for n in (800, 1000, 4001))
    assert nearest_neighbour_memorisation(train, held_out, train[:300]) == 1
    assert nearest_neighbour_memorisation(train, held_out, fresh) == pytest.approx(0.05, abs=0.025)
    assert nearest_neighbour_memorisation(train, held_out, held_out) == 0.05
    assert nearest_neighbour_memorisation(train, held_out, fresh + 20) == 0
    half = torch.cat([train[:500], fresh[:500] + 20])
    assert nearest_neighbour_memorisation(train, held_out, half) == 0.5


def test_nearest_distances_are_those_of_cdist():
    a, b = normal(30, 5, seed=1), normal(40, 5, seed=2)
    assert torch.allclose(nearest_distances(a, b), torch.cdist(a, b).min(1).values, atol=1e-10)
    assert nearest_distances(a, a).max() < 1e-6


def test_class_accuracy_counts():
    assert class_accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])) == 0.75


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3)), "no covariance"),
        (lambda: frechet_distance(torch.full((5, 3), math.nan), torch.zeros(5, 3)), "not finite"),
        (lambda: kernel_distance(torch.zeros(1, 3), torch.zeros(5, 3)), "no pair"),
        (lambda: kernel_distance(torch.zeros(5, 3), torch.zeros(5, 4)), "3 and 4 features"),
        (lambda: frechet_distance(torch.zeros(5, 3), torch.zeros(5, 4)), "3 and 4 features"),
        (lambda: precision_recall(torch.zeros(5, 3), torch.zeros(5, 4)), "3 and 4 features"),
        (lambda: nearest_distances(torch.zeros(5, 3), torch.zeros(5, 4)), "3 and 4 features"),
        (lambda: precision_recall(torch.zeros(3, 2), torch.zeros(9, 2)), "3 images have no 3 neighbours"),
        (lambda: kernel_distance(torch.zeros(0, 3), torch.zeros(5, 3)), "shape"),
        (lambda: class_accuracy(torch.zeros(3), torch.zeros(4)), "3 predictions for 4 labels"),
    ],
)
def test_bad_features_are_told(call, message):
    with pytest.raises(UserError, match=message):
        call()


# ---- the evaluator, with features whose law is known: each image is one Gaussian vector


def vectors(count, seed, classes=2):
    """Images of 1 x 8 x 8, normal about a mean that depends on the class, in no particular order."""
    labels = torch.arange(count) % classes
    images = 0.1 * normal(count, 1, 8, 8, seed=seed).float() + 0.5 * (labels * 2 - 1)[:, None, None, None]
    return ImageData("vectors", images, labels, ("low", "high")[:classes])


def look(images):
    """Eight pixels, twice as large; the class by the mean's sign."""
    mean = images.mean((1, 2, 3))
    return Features(images[:, 0, 0] * 2, torch.stack([-mean, mean], 1))


@pytest.fixture(scope="module")
def evaluator():
    return ImageEvaluator(Splits(vectors(600, 1), vectors(200, 2), vectors(300, 3)), look)


def test_fresh_real_images_score_the_floors(evaluator):
    fresh = vectors(3000, 4)
    scores = evaluator(fresh.images, fresh.labels)
    assert scores["fid"] == pytest.approx(evaluator.frechet_floor(3000), rel=0.4)
    assert abs(scores["fid_above_floor"]) < 0.003 and abs(scores["kid"]) < 0.02
    assert scores["precision"] > 0.75 and scores["recall"] > 0.75 and scores["class_accuracy"] == 1
    assert scores["memorisation"] == pytest.approx(0.05, abs=0.04)


def test_expected_floor_is_met_on_average():
    """fid_above_floor of perfect samples has mean 0 over reference sets."""
    above = []
    for turn in range(25):
        data = Splits(vectors(40, 1), vectors(40, 2), vectors(300, 100 + turn))
        fresh = vectors(500, 200 + turn)
        above.append(ImageEvaluator(data, look)(fresh.images, fresh.labels)["fid_above_floor"])
    floor = ImageEvaluator(data, look).frechet_floor(500)
    assert abs(sum(above) / len(above)) < 0.15 * floor


def test_floor_names_copying_and_halves(evaluator):
    floor = evaluator.floor()
    assert set(floor) == {"train", "halves"}
    keys = {"fid", "fid_above_floor", "kid", "precision", "recall", "class_accuracy", "memorisation"}
    assert all(set(scores) == keys for scores in floor.values())
    assert floor["train"]["memorisation"] == 1 and floor["halves"]["memorisation"] == 0.05
    assert floor["halves"]["fid"] > floor["train"]["fid"] > 0


def test_faults_show_in_their_own_score(evaluator):
    good = vectors(900, 5)
    base = evaluator(good.images, good.labels)
    swapped = evaluator(good.images, 1 - good.labels)
    assert swapped["class_accuracy"] == 0 and swapped["fid"] == base["fid"]
    dropped = good.take(good.labels.argsort()[:450])
    assert (
        evaluator(dropped.images, dropped.labels)["recall"]
        < 0.55
        < evaluator(dropped.images, dropped.labels)["precision"]
    )
    noisy = evaluator(good.images + 0.3 * torch.randn(good.images.shape, generator=generator("noise")), good.labels)
    assert noisy["precision"] < 0.2 and noisy["fid_above_floor"] > 1 and noisy["kid"] > base["kid"]


def test_scores_do_not_depend_on_the_order_by_class(evaluator):
    """Precision and recall go by blocks: sorted samples must not put one class in each."""
    good = vectors(900, 6)
    by_class = good.take(good.labels.argsort(stable=True))
    mixed, sorted_ = evaluator(good.images, good.labels), evaluator(by_class.images, by_class.labels)
    assert all(sorted_[key] == pytest.approx(mixed[key], abs=0.03) for key in ("precision", "recall", "memorisation"))


def test_select_split_is_another_reference_and_scoring_is_repeatable(evaluator):
    good = vectors(400, 7)
    state = torch.random.get_rng_state()
    first = evaluator(good.images, good.labels)
    assert torch.equal(torch.random.get_rng_state(), state)
    again = ImageEvaluator(evaluator.splits, look)(good.images, good.labels)
    select = ImageEvaluator.for_split(evaluator.splits, look, "select")
    assert first == again and select(good.images, good.labels)["fid"] != first["fid"]
    assert select.reference is evaluator.splits.select and evaluator.reference is evaluator.splits.report


def test_fewer_pairs_give_nearly_the_same_scores(evaluator):
    good = vectors(900, 8)
    small = ImageEvaluator(evaluator.splits, look, max_pairs=40_000)
    whole, part = evaluator(good.images, good.labels), small(good.images, good.labels)
    assert part["fid"] == whole["fid"] and part["recall"] == pytest.approx(whole["recall"], abs=0.1)


def test_bad_generated_images_are_told(evaluator):
    images = vectors(10, 9).images.clone()
    images[4, 0, 1, 1] = math.inf
    with pytest.raises(UserError, match="generated image 4 has pixels that are not finite"):
        evaluator(images, torch.zeros(10, dtype=torch.long))
    with pytest.raises(UserError, match="10 images have 9 labels"):
        evaluator(vectors(10, 9).images, torch.zeros(9, dtype=torch.long))


# ---- the feature network


@pytest.fixture(scope="module")
def digits():
    return split(load_images("digits"), 0)


def test_default_features_tell_digits_apart(digits):
    features = trained_features(digits, quiet=True)
    assert features.accuracy >= 0.97
    seen = features(digits.train.images)
    assert seen.embeddings.shape == (len(digits.train), 32) and seen.logits.shape[1] == 10
    assert seen.embeddings.mean(0).abs().max() < 1e-3 and (seen.embeddings.std(0) - 1).abs().max() < 1e-3
    floor = ImageEvaluator(digits, features).floor()
    assert floor["train"]["memorisation"] == 1 and abs(floor["train"]["fid_above_floor"]) < 0.1


SMALL = FeatureSettings(updates=8, batch=16)


def test_features_are_trained_once_and_alike(digits, monkeypatch, tmp_path):
    state = torch.random.get_rng_state()
    first = trained_features(digits, SMALL, quiet=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    monkeypatch.setattr("stillhouse.diffusion.features._train", lambda *_: pytest.fail("trained again"))
    found = trained_features(digits, SMALL, quiet=True)
    images = digits.select.images
    assert torch.equal(first(images).embeddings, found(images).embeddings) and first.accuracy == found.accuracy
    monkeypatch.undo()
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path))
    torch.manual_seed(99)
    anew = trained_features(digits, SMALL, quiet=True)
    assert torch.equal(first(images).embeddings, anew(images).embeddings)
    assert anew.folder != first.folder and anew.folder.name == first.folder.name
    other = trained_features(split(load_images("digits"), 1), SMALL, quiet=True)
    assert other.folder.name != first.folder.name
    reported = Splits(digits.train, digits.report, digits.select)  # same training, another accuracy
    assert trained_features(reported, SMALL, quiet=True).folder.name != first.folder.name
    torch.random.set_rng_state(state)


def test_a_network_of_other_layers_is_not_taken_from_the_cache(digits, monkeypatch):
    first = trained_features(digits, SMALL, quiet=True)
    monkeypatch.setattr("stillhouse.diffusion.features._convolution", lambda i, o, stride: nn.Conv2d(i, o, 1, stride))
    assert trained_features(digits, SMALL, quiet=True).folder != first.folder


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 12), (3, 32), (1, 64)])
def test_features_of_all_sizes(channels, size):
    images = torch.rand((24, channels, size, size), generator=generator("any")) * 2 - 1
    data = ImageData("any", images, torch.arange(24) % 2, ("a", "b"))
    features = trained_features(Splits(data, data, data), FeatureSettings(updates=2, batch=8), quiet=True)
    seen = features(images)
    assert seen.embeddings.shape == (24, 32) and seen.logits.shape == (24, 2)
    with pytest.raises(UserError, match="learned on"):
        features(images[:, :, :4])


def test_one_class_is_learned_from_rotations():
    digits = load_images("digits")
    one = split(ImageData("digits", digits.images, torch.zeros_like(digits.labels), ("image",)), 0)
    features = trained_features(one, FeatureSettings(updates=150), quiet=True)
    assert features.accuracy > 0.5  # of four rotations, some digits look alike
    assert features(one.report.images).logits.shape == (len(one.report), 1)
    assert ImageEvaluator(one, features)(one.train.images, one.train.labels)["class_accuracy"] == 1


def test_damaged_feature_network_is_named(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path))
    folder = trained_features(digits, SMALL, quiet=True).folder
    (folder / "network.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match=r"feature network in .* is damaged .*; remove that folder"):
        trained_features(digits, SMALL, quiet=True)


def test_shifts_move_whole_images():
    torch.manual_seed(0)
    image = torch.arange(25.0).view(1, 1, 5, 5)
    moved = shifted(image.repeat(200, 1, 1, 1), 1)
    padded = torch.nn.functional.pad(image, (1,) * 4, mode="replicate")[0, 0]
    allowed = {tuple(padded[r : r + 5, c : c + 5].flatten().tolist()) for r in range(3) for c in range(3)}
    assert {tuple(each.flatten().tolist()) for each in moved} == allowed
