"""How good generated images are: distances between feature sets, precision and recall, copying.

The functions take feature arrays and compute in float64. `ImageEvaluator` applies them to generated images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from stillhouse.core.errors import UserError, require
from stillhouse.core.seeding import generator
from stillhouse.diffusion.features import FeatureExtractor, Features
from stillhouse.vision.image_files import Attributes
from stillhouse.vision.images import ImageData, Splits

if TYPE_CHECKING:
    from jaxtyping import Float, Int

CHUNK_PAIRS = 4_000_000
"""Pairs whose kernel or distance is held in memory at once (32 MB in float64)."""
HELD_OUT_PERCENTILE = 5.0
HALVINGS = 20
LARGEST_HALVED = 2500
"""Halves of more would take long and say the same."""


def moments(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and unbiased covariance, in float64.

    Raises:
        UserError: fewer than two images.
    """
    points = _points(features)
    require(len(points) > 1, f"{len(points)} feature vectors have no covariance", "give at least 2 images")
    centred = points - points.mean(0)
    return points.mean(0), centred.T @ centred / (len(points) - 1)


def gaussian_frechet_distance(
    mean_a: Float[Tensor, " d"],
    covariance_a: Float[Tensor, "d d"],
    mean_b: Float[Tensor, " d"],
    covariance_b: Float[Tensor, "d d"],
) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)), the squared 2-Wasserstein distance of two Gaussians.

    tr (A B)^(1/2) is the nuclear norm of A^(1/2) B^(1/2), which needs no root of a product: it is real and exact
    for singular covariances too. Source: Dowson and Landau 1982; arXiv 1706.08500.
    """
    shift = (mean_a - mean_b).double().square().sum()
    root_a, root_b = symmetric_root(covariance_a.double()), symmetric_root(covariance_b.double())
    overlap = torch.linalg.svdvals(root_a @ root_b).sum()
    distance = shift + covariance_a.double().trace() + covariance_b.double().trace() - 2 * overlap
    return max(0.0, float(distance))


def symmetric_root(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """Square root of a positive semidefinite matrix; eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def frechet_distance(features_a: Float[Tensor, "n d"], features_b: Float[Tensor, "m d"]) -> float:
    """Frechet distance of Gaussians fitted to both sets (FID, arXiv 1706.08500).

    Biased upwards by about c (1/n + 1/m); see `ImageEvaluator.frechet_floor`.
    """
    a, b = _two_sets(features_a, features_b)
    return gaussian_frechet_distance(*moments(a), *moments(b))


def kernel_distance(features_a: Float[Tensor, "n d"], features_b: Float[Tensor, "m d"]) -> float:
    """Unbiased squared MMD with k(x, y) = (x.y / d + 1)^3 over all pairs (KID, arXiv 1801.01401).

    Its expectation is 0 for equal distributions at any sample size, so single values may be negative. Memory is
    bounded, time grows with (n + m)^2: 5,000 against 5,000 takes about a second on one core.
    """
    a, b = _two_sets(features_a, features_b)
    return kernel_mean_within(a) + kernel_mean_within(b) - 2 * kernel_mean_between(a, b)


def kernel_mean_within(points: Float[Tensor, "n d"]) -> float:
    """Mean of k over pairs of different points.

    Raises:
        UserError: fewer than two images.
    """
    points, count = _points(points), len(points)
    require(count > 1, f"{count} feature vectors make no pair", "give at least 2 images")
    itself = cubic_kernel((points * points).sum(1), points.shape[1]).sum()
    return (kernel_mean_between(points, points) * count**2 - float(itself)) / (count * (count - 1))


def kernel_mean_between(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Mean of k over all pairs."""
    a, b = _two_sets(a, b)
    total = sum(float(cubic_kernel(part @ b.T, a.shape[1]).sum()) for part in _chunks(a, len(b)))
    return total / (len(a) * len(b))


def cubic_kernel(products: Tensor, features: int) -> Tensor:
    """(x.y / d + 1)^3 from the inner products x.y."""
    base = products / features + 1
    return base * base * base


def precision_recall(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (arXiv 1904.06991): share of fakes in the real manifold, and the reverse.

    A set's manifold is the union of balls around its points, each as wide as the way to its k-th nearest other point.

    Raises:
        UserError: a set has no k other points.
    """
    real, fake = _two_sets(real, fake)
    return _share_inside(fake, real, k), _share_inside(real, fake, k)


def nearest_neighbour_memorisation(
    train: Float[Tensor, "n d"], held_out: Float[Tensor, "m d"], fake: Float[Tensor, "f d"]
) -> float:
    """Share of fakes nearer to the train set than all but 5 % of held-out real images are.

    Distances are Euclidean, to the nearest train image. A fresh real image scores 0.05 on average, a copied train
    set 1. Smooth or blurred images, too, lie near to their nearest neighbour: a high value asks for a look at the
    pairs, a low one is good evidence.
    """
    return float((nearest_distances(fake, train) < memorisation_threshold(train, held_out)).double().mean())


def memorisation_threshold(train: Float[Tensor, "n d"], held_out: Float[Tensor, "m d"]) -> float:
    """The 5th percentile of held-out images' distances to their nearest train image."""
    return float(np.percentile(nearest_distances(held_out, train).numpy(), HELD_OUT_PERCENTILE))


def nearest_distances(points: Float[Tensor, "n d"], references: Float[Tensor, "m d"]) -> Float[Tensor, " n"]:
    """Euclidean distance of each point to the nearest reference."""
    points, references = _two_sets(points, references)
    squares = (references * references).sum(1)
    # |x - y|^2 = |x|^2 - 2 x.y + |y|^2, of which |x|^2 does not change which y is nearest
    nearest = [(squares - 2 * part @ references.T).min(1).values for part in _chunks(points, len(references))]
    return (torch.cat(nearest) + (points * points).sum(1)).clamp_min(0).sqrt()


def class_accuracy(predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> float:
    """Share of images whose predicted class is the one asked for.

    Raises:
        UserError: predictions and labels are not equally many.
    """
    require(len(predicted) == len(labels), f"{len(predicted)} predictions for {len(labels)} labels", "give one each")
    return float((predicted.cpu() == labels.cpu()).double().mean())


def attribute_accuracies(
    attributes: Attributes, predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"]
) -> dict[str, float]:
    """Share of attributes that are as asked for, over all images and over those of held-out combinations."""
    table = torch.tensor(attributes.table)
    right = (table[predicted.cpu()] == table[labels.cpu()]).double().mean(1)
    held_out = torch.isin(labels.cpu(), torch.tensor(attributes.held_out, dtype=torch.long))
    found = {"attribute_accuracy": float(right.mean())}
    if held_out.any():
        found["held_out_accuracy"] = float(right[held_out].mean())
    return found


@dataclass(frozen=True, eq=False)
class ImageEvaluator:
    """Scores generated images against a split that nothing was fitted on; what depends on it alone is kept.

    Attributes:
        splits: the data; `train` is what copying is measured against.
        features: what images are compared in.
        which: the reference: "report", or "select" for choosing settings.
        max_pairs: precision and recall use as many reference images as squared fit into this (5,000), memorisation as
            many generated images as times the train images fit into it (all up to 5,000 train images for 5,000).
    """

    splits: Splits
    features: FeatureExtractor
    which: Literal["select", "report"] = "report"
    max_pairs: int = 25_000_000

    @classmethod
    def for_split(
        cls, splits: Splits, features: FeatureExtractor, which: Literal["select", "report"]
    ) -> ImageEvaluator:
        """The evaluator against the named split."""
        return cls(splits, features, which)

    @property
    def reference(self) -> ImageData:
        """The real images that generated ones are held against."""
        return self.splits.select if self.which == "select" else self.splits.report

    def __call__(self, images: Float[Tensor, "n channels height width"], labels: Int[Tensor, " n"]) -> dict[str, float]:
        """Scores of images that were asked for with `labels`.

        fid: Frechet distance to the reference. fid_above_floor: less what as many real images of the reference's class
        proportions would score on average (`frechet_floor`); about 0 is perfect, and below 0 is chance.
        kid: kernel distance, 0 on average for independent real images, a little below for classes in equal
        proportions, which vary less (see `floor`).
        precision, recall: averaged over blocks as large as the reference, as both depend on the sizes.
        class_accuracy: by the extractor's logits. memorisation: in pixels, see `nearest_neighbour_memorisation`.

        Raises:
            UserError: an image is not finite, or there are too few.
        """
        bad = torch.nonzero(~images.isfinite().flatten(1).all(1)).flatten().tolist()
        if bad:
            raise UserError(f"generated image {bad[0]} has pixels that are not finite", "lower the learning rate")
        require(len(images) == len(labels), f"{len(images)} images have {len(labels)} labels", "give one an image")
        found = self.features(images)
        scores = self._distribution_scores(_points(found.embeddings))
        scores |= self._accuracies(found.logits.argmax(1), labels)
        scores["memorisation"] = self._memorisation(images)
        return scores

    def floor(self) -> dict[str, dict[str, float]]:
        """What real images score: the two floors that belong beside every table.

        "train": the train split as if it had been generated, which is what perfect copying scores (memorisation 1).
        "halves": one half of the reference against the other, averaged over 20 halvings: real against real, at half
        the reference's size, so its fid is higher than that of a perfect generator; memorisation 0.05 by definition.
        """
        halves = self._halves
        accuracies = self._accuracies(self._reference_features.logits.argmax(1), self.reference.labels)
        other = {"fid_above_floor": 0.0, **accuracies, "memorisation": HELD_OUT_PERCENTILE / 100}
        return {"train": self(self.splits.train.images, self.splits.train.labels), "halves": halves | other}

    def chance(self) -> dict[str, float]:
        """Accuracies of the reference's images against labels dealt out at random."""
        return self._accuracies(self._reference_features.logits.argmax(1), _shuffled(self.reference.labels, "chance"))

    def _accuracies(self, predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> dict[str, float]:
        found = {"class_accuracy": class_accuracy(predicted, labels)}
        if attributes := self.splits.train.attributes:
            found |= attribute_accuracies(attributes, predicted, labels)
        return found

    def frechet_floor(self, images: int) -> float:
        """Expected Frechet distance of `images` perfect samples to the reference, for want of infinitely many.

        Both terms of the distance are quadratic in the estimates' errors, so to leading order it is c (1/n + 1/m),
        for reference size m; c is taken from halves of the reference, where it is c (2/m + 2/m). Within 6 % for
        Gaussians of 32 features and 269 or more images.
        """
        bias = self._halves["fid"] * min(len(self.reference), LARGEST_HALVED) / 4
        return bias * (1 / images + 1 / len(self.reference))

    def _distribution_scores(self, points: Float[Tensor, "n d"]) -> dict[str, float]:
        fid = gaussian_frechet_distance(*moments(points), *self._moments)
        kid = kernel_mean_within(points) + self._kernel_mean - 2 * kernel_mean_between(points, self._reference)
        precision, recall = self._precision_recall(points)
        above = fid - self.frechet_floor(len(points))
        return {"fid": fid, "fid_above_floor": above, "kid": kid, "precision": precision, "recall": recall}

    def _precision_recall(self, points: Float[Tensor, "n d"]) -> tuple[float, float]:
        real = self._reference[: math.isqrt(self.max_pairs)]
        # shuffled, since generated images often come class by class, and a block should hold all classes
        points = _shuffled(points, "precision and recall")
        whole = max(1, len(points) // len(real)) * len(real)
        blocks = [precision_recall(real, block) for block in points[:whole].split(len(real))]
        precision, recall = np.mean(blocks, axis=0)
        return float(precision), float(recall)

    def _memorisation(self, images: Tensor) -> float:
        most = max(1, self.max_pairs // len(self.splits.train))
        distances = nearest_distances(_pixels(_shuffled(images, "memorisation")[:most]), self._train_pixels)
        return float((distances < self._threshold).double().mean())

    @cached_property
    def _reference_features(self) -> Features:
        return self.features(self.reference.images)

    @cached_property
    def _reference(self) -> Float[Tensor, "m d"]:
        """Reference embeddings, shuffled so that any first part of them is a fair sample."""
        return _shuffled(_points(self._reference_features.embeddings), "reference")

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        return moments(self._reference)

    @cached_property
    def _kernel_mean(self) -> float:
        return kernel_mean_within(self._reference)

    @cached_property
    def _train_pixels(self) -> Tensor:
        return _pixels(self.splits.train.images)

    @cached_property
    def _threshold(self) -> float:
        most = max(100, self.max_pairs // len(self.splits.train))
        held_out = _pixels(_shuffled(self.reference.images, "memorisation")[:most])
        return memorisation_threshold(self._train_pixels, held_out)

    @cached_property
    def _halves(self) -> dict[str, float]:
        """Mean scores of one half of the reference against the other."""
        splits = [self._halving(turn) for turn in range(HALVINGS)]
        precision, recall = np.mean([precision_recall(a, b) for a, b in splits], axis=0)
        return {
            "fid": float(np.mean([frechet_distance(a, b) for a, b in splits])),
            "kid": float(np.mean([kernel_distance(a, b) for a, b in splits])),
            "precision": float(precision),
            "recall": float(recall),
        }

    def _halving(self, turn: int) -> tuple[Tensor, Tensor]:
        """Two random halves of the reference with the same number of each class, as the splits have."""
        labels = _shuffled(self.reference.labels, "reference")[:LARGEST_HALVED]
        order = _shuffled(torch.arange(len(labels)), "halves", turn)
        order = order[labels[order].argsort(stable=True)]
        return self._reference[order[::2]], self._reference[order[1::2]]


def _share_inside(points: Float[Tensor, "n d"], centres: Float[Tensor, "m d"], k: int) -> float:
    """Share of points in a ball around a centre that reaches to its k-th nearest other centre."""
    require(len(centres) > k, f"{len(centres)} images have no {k} neighbours each", f"give more than {k}")
    # counted with the centre itself, at distance 0: the k-th other one is the (k + 1)-th
    radii = torch.cat([_distances(part, centres).kthvalue(k + 1).values for part in _chunks(centres, len(centres))])
    inside = [(_distances(part, centres) <= radii).any(1) for part in _chunks(points, len(centres))]
    return float(torch.cat(inside).double().mean())


def _distances(a: Tensor, b: Tensor) -> Float[Tensor, "n m"]:
    # by differences: by products, equal points may come out a little apart, each chunk in its own way
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _chunks(points: Tensor, others: int) -> Iterator[Tensor]:
    """Parts of `points` that make at most `CHUNK_PAIRS` pairs with `others` points."""
    yield from points.split(max(1, CHUNK_PAIRS // max(1, others)))


def _points(features: Tensor | np.ndarray) -> Float[Tensor, "n d"]:
    """Feature vectors in float64 on the CPU.

    Raises:
        UserError: they are not finite, or there are none.
    """
    points = torch.as_tensor(features).detach().cpu().double()
    require(points.ndim == 2 and len(points) > 0, f"features have shape {tuple(points.shape)}", "give n x d, n > 0")
    require(bool(points.isfinite().all()), "features are not finite", "look at the images they are of")
    return points


def _two_sets(a: Tensor, b: Tensor) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    first, second = _points(a), _points(b)
    widths = first.shape[1], second.shape[1]
    require(widths[0] == widths[1], f"the two sets have {widths[0]} and {widths[1]} features", "use one extractor")
    return first, second


def _pixels(images: Tensor) -> Float[Tensor, "n pixels"]:
    return images.flatten(1).cpu().double()


def _shuffled(items: Tensor, *purpose: str | int) -> Tensor:
    """In an order that depends on the purpose and the number alone."""
    return items[torch.randperm(len(items), generator=generator("image metrics", *purpose)).to(items.device)]
