"""The equations: distance covariance over Gaussian posteriors, quality and utility losses, sliced Wasserstein, MMD."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ROWS_AT_ONCE = 512
"""Rows of the pair matrix held at once; a batch of n rows needs ROWS_AT_ONCE * n * latent numbers, not n * n * latent."""


def log_overlap(
    mu: Float[Tensor, "a d"], variance: Float[Tensor, "a d"], other_mu: Float[Tensor, "b d"], other_variance: Tensor
) -> Float[Tensor, "a b"]:
    """log INT N(z; mu_i, v_i) N(z; mu_j, v_j) dz for all pairs.

    = -1/2 sum_d [ log(2 pi (v_id + v_jd)) + (mu_id - mu_jd)^2 / (v_id + v_jd) ].
    """
    return cast(Tensor, _LogOverlap.apply(mu, variance, other_mu, other_variance))


class _LogOverlap(torch.autograd.Function):
    """`log_overlap` with its gradient written out, a dimension at a time and in place.

    Three times as fast as recorded operations: matrices of pairs stay in the processor's cache, none is kept for the
    backward pass, and four variances share a logarithm. With r = (mu_i - mu_j) / (v_i + v_j) the gradients by
    dimension are -r (mu_i), r (mu_j) and (r^2 - 1 / (v_i + v_j)) / 2 (v_i and v_j).
    """

    @staticmethod
    def forward(ctx: Any, mu: Tensor, variance: Tensor, other_mu: Tensor, other_variance: Tensor) -> Tensor:
        ctx.save_for_backward(mu, variance, other_mu, other_variance)
        total = mu.new_full((len(mu), len(other_mu)), mu.shape[1] * math.log(2 * math.pi))
        for dimensions in torch.arange(mu.shape[1]).split(4):
            product = torch.ones_like(total)
            for d in dimensions.tolist():
                both = variance[:, d, None] + other_variance[None, :, d]
                product.mul_(both)
                total.add_((mu[:, d, None] - other_mu[None, :, d]).square_().div_(both))
            total.add_(product.log_())
        return total.mul_(-0.5)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        mu, variance, other_mu, other_variance = ctx.saved_tensors
        found = [torch.empty_like(t) for t in (mu, variance, other_mu, other_variance)]
        for d in range(mu.shape[1]):
            inverse = (variance[:, d, None] + other_variance[None, :, d]).reciprocal_()
            r = (mu[:, d, None] - other_mu[None, :, d]).mul_(inverse)
            by_mean = r * gradient
            found[0][:, d], found[2][:, d] = -by_mean.sum(1), by_mean.sum(0)
            by_variance = r.square_().sub_(inverse).mul_(gradient).mul_(0.5)
            found[1][:, d], found[3][:, d] = by_variance.sum(1), by_variance.sum(0)
        return tuple(found)


def log_group_overlaps(
    mu: Float[Tensor, "n d"],
    variance: Float[Tensor, "n d"],
    groups: Int[Tensor, " n"],
    weights: Float[Tensor, " n"] | None = None,
    *,
    self_pairs: bool,
) -> tuple[Float[Tensor, "k k"], Float[Tensor, " k"]]:
    """log D(s, s') = log mean_{i in s, j in s'} overlap(i, j) for the groups present, and their shares p(s).

    With weights the means and the shares are weighted by w_i w_j and w_i.

    Computed in the log domain, a block of rows at a time; with gradients the blocks are computed again in the
    backward pass instead of kept.

    Args:
        self_pairs: whether a row's overlap with itself counts (the exact integral) or not (an unbiased estimate of
            the population's from a batch; groups of one row are then left out).
    """
    least = 1 if self_pairs else 2
    parts = [part for k in groups.unique() if len(part := torch.nonzero(groups == k)[:, 0]) >= least]
    order = torch.cat(parts)
    mu, variance = mu[order], variance[order]
    weights = mu.new_ones(len(mu)) if weights is None else weights[order]
    log_weights = weights.log()
    sizes = [len(part) for part in parts]

    def block(rows: Tensor, mu: Tensor, variance: Tensor) -> Float[Tensor, "rows k"]:
        overlap = log_overlap(mu[rows], variance[rows], mu, variance) + log_weights[rows, None] + log_weights
        if not self_pairs:
            overlap = overlap.masked_fill(rows[:, None] == torch.arange(len(mu)), -torch.inf)
        return torch.stack([part.logsumexp(1) for part in overlap.split(sizes, 1)], 1)

    blocks = torch.arange(len(mu)).split(ROWS_AT_ONCE)
    again = len(blocks) > 1 and torch.is_grad_enabled()
    sums = [
        checkpoint(block, b, mu, variance, use_reentrant=False) if again else block(b, mu, variance) for b in blocks
    ]
    totals = torch.stack([part.logsumexp(0) for part in torch.cat(sums).split(sizes)])
    sums_of = [torch.stack([part.sum() for part in w.split(sizes)]) for w in (weights, weights**2)]
    pairs = sums_of[0][:, None] * sums_of[0][None]
    pairs = pairs if self_pairs else pairs - torch.diag(sums_of[1])
    return totals - pairs.log(), sums_of[0] / sums_of[0].sum()


def reweighing(groups: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> Float[Tensor, "groups classes"]:
    """w(s, y) = p(s) p(y) / p(s, y): so weighted, group and label are independent (Kamiran and Calders, 2012); 0 where p(s, y) is.

    Under these weights a latent may say everything of the label and still be independent of the group.
    """
    joint = torch.zeros(int(groups.max()) + 1, int(labels.max()) + 1)
    joint.index_put_((groups, labels), torch.ones(len(groups)), accumulate=True)
    expected = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True) / joint.sum()
    return torch.where(joint > 0, expected / joint.clamp_min(1), 0.0)


def distance_covariance(
    mu: Float[Tensor, "n d"],
    logvar: Float[Tensor, "n d"],
    groups: Int[Tensor, " n"],
    weights: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """V^2(Z, S) = sum_s p(s)^2 INT (q(z|s) - q(z))^2 dz, exactly, for q(z) = 1/n sum_i N(mu_i, v_i).

    = sum_s p(s)^2 [ D(all, all) + D(s, s) - 2 D(s, all) ] (arXiv 2408.10755, the penalty of its teacher).
    """
    log_d, shares = log_group_overlaps(mu, logvar.exp(), groups, weights, self_pairs=True)
    return _covariance(log_d.exp(), shares)


def relative_dependence(
    mu: Float[Tensor, "n d"],
    logvar: Float[Tensor, "n d"],
    groups: Int[Tensor, " n"],
    widths: Sequence[float] = (0.0,),
    weights: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """V^2 / D(all, all), estimated without self pairs and averaged over smoothing widths; about 0 when Z and S are independent.

    The ratio has no unit: its weight keeps its meaning in any number of dimensions, and posteriors cannot lower it by
    growing wide. A width h adds h^2 to the variances, that is, compares densities smoothed by N(0, h^2): narrow
    posteriors see only differences as small as themselves, a wide h sees the shift of a whole group.

    Args:
        weights: what each row counts; see `reweighing`.
    """
    total = mu.new_zeros(())
    for width in widths:
        log_d, shares = log_group_overlaps(mu, logvar.exp() + width**2, groups, weights, self_pairs=False)
        log_all = torch.logsumexp((log_d + shares.log()[:, None] + shares.log()[None]).flatten(), 0)
        total = total + _covariance((log_d - log_all).exp(), shares)
    return total / len(widths)


def _covariance(d: Float[Tensor, "k k"], shares: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    with_all = d @ shares
    return (shares**2 * (shares @ with_all + d.diagonal() - 2 * with_all)).sum()


def kl_to_prior(mu: Float[Tensor, "n d"], logvar: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean KL( N(mu, v) || N(0, I) ) = -1/2 sum_d (1 + log v - mu^2 - v)."""
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()


def quality_loss(teacher_mu: Float[Tensor, "n d"], student_mu: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """L_quality = mean ||mu_T - mu_S||_1: the student's representation is the teacher's."""
    return (teacher_mu - student_mu).abs().sum(1).mean()


def utility_loss(
    teacher_mu: Tensor, teacher_logvar: Tensor, student_mu: Tensor, student_logvar: Tensor
) -> Float[Tensor, ""]:
    """L_utility = mean KL( N(mu_T, v_T) || N(mu_S, v_S) ) = 1/2 sum_d [ ln v_S/v_T + (v_T + (mu_T - mu_S)^2) / v_S - 1 ]."""
    ratio = (teacher_logvar - student_logvar).exp()
    gap = (teacher_mu - student_mu) ** 2 * (-student_logvar).exp()
    return 0.5 * (ratio + gap - 1 + student_logvar - teacher_logvar).sum(1).mean()


def sliced_wasserstein(
    one: Float[Tensor, "n d"], other: Float[Tensor, "n d"], directions: Float[Tensor, "d m"]
) -> Float[Tensor, ""]:
    """Mean over directions of the squared 2-Wasserstein distance of the two projected samples."""
    left, right = (one @ directions).sort(0).values, (other @ directions).sort(0).values
    return ((left - right) ** 2).mean()


def energy_distance(one: Float[Tensor, "n d"], other: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """MMD^2 with the kernel -|a - b|: 2 E|a - b| - E|a - a'| - E|b - b'|, pairs of a row with itself left out."""
    between = torch.cdist(one, other).mean()
    within = [torch.cdist(z, z).sum() / (len(z) * (len(z) - 1)) for z in (one, other)]
    return 2 * between - within[0] - within[1]
