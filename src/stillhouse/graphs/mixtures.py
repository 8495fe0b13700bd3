"""Class-conditional mixtures of count bags: how often each frequent tree is in a graph, and in what company.

    p(n | c) = sum_m w_cm  prod_t  h(n_t; p_cmt, mu_cmt)          h(0) = 1 - p,   h(n) = p Poisson(n - 1; mu - 1)

`p` is the probability that the tree is there at all and `mu` its mean count where it is. Components are k-means clusters of
log(1 + counts). This summary is ours, not the paper's: frequent sets forget multiplicity and size (docs/methods/mirage.md).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from stillhouse.core.seeding import derive_seed
from stillhouse.graphs.data import Floats, Ints


@dataclass(frozen=True)
class Mixture:
    """One class: components of independent hurdle-Poisson counts."""

    weights: Floats
    """[components], sum to 1."""
    presence: Floats
    """[components, trees], P(count > 0)."""
    means: Floats
    """[components, trees], mean of the counts above 0 (1 where there are none)."""


@dataclass(frozen=True)
class Rule:
    """A multinomial logistic rule on log(1 + counts): the share of each class that a drawn bag is labelled with."""

    weights: Floats
    """[classes, trees]."""
    bias: Floats
    """[classes]."""

    def shares(self, counts: Floats) -> Floats:
        """[bags, classes]."""
        scores = np.log1p(counts) @ self.weights.T + self.bias
        scores -= scores.max(1, keepdims=True)
        exp = np.exp(scores)
        return (exp / exp.sum(1, keepdims=True)).astype(np.float32)


def fit_mixture(counts: sp.csr_array, components: int, seed: int) -> Mixture:
    """Mixture of one class's bags; fewer components where there are fewer distinct bags.

    Args:
        counts: [graphs, trees].
    """
    dense = counts.toarray()
    logs = np.log1p(dense)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer distinct bags than clusters: the empty ones go below
        clusters = KMeans(min(components, len(dense)), n_init=1, random_state=derive_seed("mixture", seed) % 2**32)
        member = clusters.fit_predict(logs)
    used = np.unique(member)
    presence = np.stack([(dense[member == m] > 0).mean(0) for m in used])
    totals = np.stack([dense[member == m].mean(0) for m in used])
    weights = np.array([(member == m).mean() for m in used])
    means = np.divide(totals, presence, out=np.ones_like(totals), where=presence > 0)
    return Mixture(weights.astype(np.float32), presence.astype(np.float32), means.astype(np.float32))


def draw_counts(mixture: Mixture, bags: int, random: np.random.Generator) -> Floats:
    """[bags, trees] counts: a component by its weight, then every tree's count on its own; no bag is empty."""
    which = random.choice(len(mixture.weights), bags, p=mixture.weights / mixture.weights.sum())
    presence, means = mixture.presence[which], mixture.means[which]
    there = random.random(presence.shape, dtype=np.float32) < presence
    counts = there * (1 + random.poisson(np.maximum(means - 1, 0)))
    empty = np.flatnonzero(counts.sum(1) == 0)
    counts[empty, presence[empty].argmax(1)] = 1
    return counts.astype(np.float32)


def fit_rule(counts: sp.csr_array, classes: Ints, number: int, strength: float = 0.1) -> Rule:
    """Logistic regression on log(1 + counts) of the training bags.

    Args:
        counts: [graphs, trees].
        classes: [graphs].
        number: of classes.
        strength: inverse of the penalty.
    """
    logs = np.log1p(counts.toarray())
    fitted = LogisticRegression(C=strength, max_iter=300).fit(logs, classes)
    weights = np.zeros((number, logs.shape[1]), dtype=np.float32)
    bias = np.zeros(number, dtype=np.float32)
    if len(fitted.classes_) == 2:
        weights[fitted.classes_[1]], bias[fitted.classes_[1]] = fitted.coef_[0], fitted.intercept_[0]
    else:
        weights[fitted.classes_], bias[fitted.classes_] = fitted.coef_, fitted.intercept_
    return Rule(weights, bias)
