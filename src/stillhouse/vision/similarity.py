"""How well a trained model's features or class scores fit a labelled task: PARC, CKA, RSA, LogME, LEEP, NCE, H-score, 1-NN.

All are closed formulas on the outputs of one forward pass; nothing is trained. F [n, d] are features, Q [n, k] the model's own class
probabilities, y [n] the task's labels 0 .. c-1. Higher is more alike, always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

if TYPE_CHECKING:
    from jaxtyping import Float, Int

COMPONENTS = 32
"""Principal components that PARC keeps."""
ROUNDS, CLOSE = 11, 1e-3
"""LogME's fixed point: at most so many rounds, or until alpha / beta moves by less than this share."""


class Undefined(ValueError):
    """A metric says nothing about these outputs; the message says why."""


def is_constant(values: Float[np.ndarray, "n d"]) -> bool:
    """Whether every row is the same, up to rounding."""
    return bool(np.all(np.ptp(values, axis=0) <= 1e-6 * (1 + np.abs(values).max(axis=0))))


def standardised(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n e"]:
    """Columns with mean 0 and deviation 1; columns that do not vary are left out.

    Raises:
        Undefined: no column varies.
    """
    centred = features - features.mean(0)
    deviation = centred.std(0)
    varies = deviation > 1e-6 * (1 + np.abs(features).max(0))
    if not varies.any():
        raise Undefined("constant features")
    return centred[:, varies] / deviation[varies]


def principal(features: Float[np.ndarray, "n d"], components: int = COMPONENTS) -> Float[np.ndarray, "n f"]:
    """Coordinates along the first min(components, n, d) principal axes, those without variance left out.

    Raises:
        Undefined: the features do not vary.
    """
    if is_constant(features):
        raise Undefined("constant features")
    u, s, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    kept = min(components, int((s > 1e-7 * s[0]).sum()))
    return u[:, :kept] * s[:kept]


def pair_distances(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " pairs"]:
    """1 - correlation of every two rows, the upper triangle row by row.

    Raises:
        Undefined: rows of one number have no correlation.
    """
    if rows.shape[1] < 2:
        raise Undefined("features of one dimension have no correlations")
    centred = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(length > 0, length, 1)
    return 1 - (unit @ unit.T)[np.triu_indices(len(rows), 1)]


def whitened_distances(features: Float[np.ndarray, "n d"], components: int = COMPONENTS) -> Float[np.ndarray, " pairs"]:
    """PARC's distances: of principal components, standardised afterwards, so that the last weighs as much as the first."""
    return pair_distances(standardised(principal(features, components)))


def plain_distances(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " pairs"]:
    """Distances of the features with every column centred, and nothing else done to them."""
    if is_constant(features):
        raise Undefined("constant features")
    return pair_distances(features - features.mean(0))


def same_class(labels: Int[np.ndarray, " n"]) -> np.ndarray:
    """For every pair, in the order of `pair_distances`, whether its classes are one."""
    first, second = np.triu_indices(len(labels), 1)
    return labels[first] == labels[second]


def closeness(distances: Float[np.ndarray, " pairs"], same: np.ndarray) -> float:
    """e = 2 AUC - 1, AUC the chance that a pair of one class is closer than a pair of two (ties count half); -1 .. 1.

    Raises:
        Undefined: there are no pairs of one class, or none of two.
    """
    return closeness_of_ranks(rankdata(distances), same)


def closeness_of_ranks(ranks: Float[np.ndarray, " pairs"], same: np.ndarray) -> float:
    """`closeness` where the distances are ranked already: a permutation of the labels then costs one sum."""
    inside, across = int(same.sum()), int((~same).sum())
    if not inside or not across:
        raise Undefined("no two labelled images of one class" if not inside else "one class only")
    smaller = (ranks[same].sum() - inside * (inside + 1) / 2) / (inside * across)  # P(same pair farther)
    return float(1 - 2 * smaller)


def auc(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """PARC without the ceiling that the class count sets: `closeness` of PARC's distances.

    PARC / 100 = sqrt(3 q (1 - q)) (2 AUC - 1) with q the share of pairs of one class, because labels give two distances only.
    """
    return closeness(whitened_distances(features), same_class(labels))


def auc_plain(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """`closeness` of features that are not whitened."""
    return closeness(plain_distances(features), same_class(labels))


def parc(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """100 Spearman(1 - corr(rows of Z), 1 - corr(rows of onehot(y))), Z = standardise(PCA_32(F)); as published.

    Source: Scalable Diverse Model Selection for Accessible Transfer Learning (arXiv 2111.06977), with an exact PCA.
    """
    return rank_correlation(whitened_distances(features), same_class(labels))


def rank_correlation(distances: Float[np.ndarray, " pairs"], same: np.ndarray) -> float:
    """100 Spearman of the distances and of the labels', which are two numbers.

    Raises:
        Undefined: there are no pairs of one class, or none of two.
    """
    if same.all() or not same.any():
        raise Undefined("one class only" if same.all() else "no two labelled images of one class")
    return 100 * float(np.corrcoef(rankdata(distances), rankdata(~same))[0, 1])


def rsa(features: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "n e"]) -> float:
    """100 Spearman of the distances among features and among those of a model trained on the task."""
    one, other = whitened_distances(features), pair_distances(standardised(reference))
    return 100 * float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def cka(one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "n e"]) -> float:
    """Linear CKA: |Y'X|^2 / (|X'X| |Y'Y|) with columns centred; 0 .. 1 (arXiv 1905.00414)."""
    x, y = one - one.mean(0), other - other.mean(0)
    across, own = np.linalg.norm(y.T @ x), np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    if own <= 0:
        raise Undefined("constant features")
    return float(across**2 / own)


def debiased_cka(one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "n e"]) -> float:
    """CKA from the unbiased estimate of HSIC: 0 in expectation where nothing is shared, whatever the widths."""
    if is_constant(one) or is_constant(other):
        raise Undefined("constant features")
    across, x, y = (_hsic(a, b) for a, b in ((one, other), (one, one), (other, other)))
    if x <= 0 or y <= 0:
        raise Undefined("too few images for an unbiased CKA")
    return across / (x * y) ** 0.5


def _hsic(one: np.ndarray, other: np.ndarray) -> float:
    """Unbiased HSIC (Song et al. 2012, eq. 5) up to its factor 1 / (n (n - 3))."""
    n = len(one)
    first, second = (features @ features.T for features in (one - one.mean(0), other - other.mean(0)))
    np.fill_diagonal(first, 0)
    np.fill_diagonal(second, 0)
    whole = first.sum() * second.sum() / ((n - 1) * (n - 2))
    return float((first * second).sum() + whole - 2 / (n - 2) * (first.sum(0) @ second.sum(0)))


def onehot(labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n c"]:
    """A column for each class that occurs."""
    return (labels[:, None] == np.unique(labels)).astype(float)


def label_cka(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """CKA of features and one-hot labels: PARC's cousin without ranks."""
    return cka(features, onehot(labels))


def leep(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """mean_i log sum_z P(y_i | z) Q_iz, P(y | z) from the joint table mean_i onehot(y_i)' Q_i (arXiv 2002.12462).

    Source classes that are never used have no P(y | z) and no part in the sum.
    """
    which = onehot(labels)
    joint = which.T @ probabilities / len(labels)
    marginal = joint.sum(0)
    given = joint[:, marginal > 0] / marginal[marginal > 0]
    return float(np.log((which @ given * probabilities[:, marginal > 0]).sum(1)).mean())


def nce(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """sum P(y, z) log P(y | z), z the most probable source class: minus the conditional entropy (arXiv 1908.08142)."""
    guessed = np.zeros_like(probabilities)
    guessed[np.arange(len(labels)), probabilities.argmax(1)] = 1
    joint = onehot(labels).T @ guessed / len(labels)
    marginal = np.broadcast_to(joint.sum(0), joint.shape)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / marginal[some])).sum())


def h_score(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """trace(pinv(cov F) cov(E[F | y])), features standardised after `principal` (arXiv 2212.10082)."""
    z = standardised(principal(features))
    which = onehot(labels)
    means = (which / which.sum(0)) @ (which.T @ z)
    return float(np.trace(np.linalg.pinv(np.cov(z, rowvar=False), rcond=1e-6) @ np.cov(means, rowvar=False)))


def logme(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean over classes of the largest log evidence a sample of Bayesian linear regression on the one-hot label.

    log p(t | F) of t ~ N(F m, 1/beta), m ~ N(0, 1/alpha), alpha and beta by fixed point (arXiv 2102.11005, algorithm 1).
    """
    if is_constant(features):
        raise Undefined("constant features")
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    kept = s > 1e-7 * s[0]
    u, squares = u[:, kept], s[kept] ** 2
    return float(np.mean([_evidence(u, squares, target, features.shape[1]) for target in onehot(labels).T]))


def _evidence(u: np.ndarray, squares: np.ndarray, target: np.ndarray, width: int) -> float:
    """Log evidence a sample for one target column; u, squares: left singular vectors and squared singular values."""
    along = u.T @ target
    off = float(max(target @ target - along @ along, 0.0))
    ratio, n = 1.0, len(target)  # alpha / beta
    for _ in range(ROUNDS):
        gamma = float((squares / (ratio + squares)).sum())
        size = float((squares * along**2 / (ratio + squares) ** 2).sum())  # |m|^2
        residue = float((ratio**2 * along**2 / (ratio + squares) ** 2).sum()) + off
        alpha, beta = gamma / (size + 1e-12), (n - gamma) / (residue + 1e-12)
        before, ratio = ratio, alpha / beta
        if abs(before - ratio) <= CLOSE * before:
            break
    size = float((squares * along**2 / (ratio + squares) ** 2).sum())
    residue = float((ratio**2 * along**2 / (ratio + squares) ** 2).sum()) + off
    return _log_evidence(alpha, beta, squares, width, size, residue, n) / n


def _log_evidence(
    alpha: float, beta: float, squares: np.ndarray, width: int, size: float, residue: float, n: int
) -> float:
    determinant = np.log(alpha + beta * squares).sum() + (width - len(squares)) * np.log(alpha)
    fit = width * np.log(alpha) + n * np.log(beta / (2 * np.pi)) - beta * residue - alpha * size
    return float((fit - determinant) / 2)


def nearest_neighbour(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """Accuracy of naming each image as the other image nearest by correlation of PARC's features."""
    n = len(labels)
    if len(np.unique(labels)) == n:
        raise Undefined("no two labelled images of one class")
    table = np.full((n, n), np.inf)
    table[np.triu_indices(n, 1)] = whitened_distances(features)
    return float((labels[np.minimum(table, table.T).argmin(1)] == labels).mean())
