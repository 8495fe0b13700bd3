"""Variational lower bounds of mutual information (Poole et al. 2019), with which MI-alpha distils.

Scores are s_ij = f(x_j, y_i): rows are the teacher's examples y_i, columns the student's x_j, so that a row shares its
variable with its baseline b(y_i). The diagonal holds the pairs that belong together.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

Scores = Float[Tensor, "batch batch"]
MOST_EXPONENT = 10.0
"""The exponent of the bound's last term is cut off here: one outlier would otherwise decide an update."""
SMALLEST_BATCH = 8
"""With fewer examples the bound, capped at log(batch), has next to nothing to say."""


def leave_one_out_baseline(scores: Scores) -> Scores:
    """m_ij = log( 1 / (K - 1) sum_{k != j} exp s_ik )."""
    k = scores.shape[0]
    # [i, j, k] without k = j
    without = (
        scores[:, None, :]
        .expand(k, k, k)
        .masked_fill(torch.eye(k, dtype=torch.bool, device=scores.device)[None], -math.inf)
    )
    return without.logsumexp(-1) - math.log(k - 1)


def interpolated_bound(scores: Scores, log_baseline: Float[Tensor, " batch"], alpha: float) -> Float[Tensor, ""]:
    """I_alpha = 1 + mean_{i != j}(s_ii - B_ij) - exp logmeanexp_{i != j}(s_ij - B_ii).

    B_ij = log( alpha exp m_ij + (1 - alpha) exp b(y_i) ). At alpha = 1 it is the multi-sample (InfoNCE-like) bound, of
    little variance and at most about log K; at alpha = 0 it is TUBA, unbiased and of high variance.

    Args:
        scores: s_ij, rows the teacher's examples.
        log_baseline: b(y_i), read at alpha < 1.
        alpha: in [0, 1].

    Raises:
        ValueError: scores are not square, of fewer than two examples, or alpha is outside [0, 1].
    """
    k = scores.shape[0]
    if scores.shape != (k, k) or k < 2:
        raise ValueError(f"scores of shape {tuple(scores.shape)}: a square of two examples or more is needed")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, not in [0, 1]")
    own = log_baseline[:, None].expand(k, k)
    if alpha == 0:
        baseline = own
    else:
        m = leave_one_out_baseline(scores)
        baseline = m if alpha == 1 else torch.logaddexp(math.log(alpha) + m, math.log1p(-alpha) + own)
    apart = ~torch.eye(k, dtype=torch.bool, device=scores.device)
    joint = (scores.diagonal()[:, None] - baseline)[apart].mean()
    exponents = (scores - baseline.diagonal()[:, None])[apart].clamp_max(MOST_EXPONENT)
    return 1 + joint - exponents.exp().mean()


def tuba_bound(scores: Scores, log_baseline: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """I_TUBA: the interpolated bound at alpha = 0 with a learned baseline."""
    return interpolated_bound(scores, log_baseline, 0.0)


def nwj_bound(scores: Scores) -> Float[Tensor, ""]:
    """I_NWJ: TUBA with the constant baseline b = 1 (a baseline of e)."""
    return tuba_bound(scores, scores.new_ones(len(scores)))


def infonce_bound(scores: Scores) -> Float[Tensor, ""]:
    """I_NCE = mean_i log( exp s_ii / (1/K sum_j exp s_ij) ), at most log K."""
    return scores.diagonal().mean() - scores.logsumexp(1).mean() + math.log(scores.shape[0])


class SeparableCritic(nn.Module):
    """f(x, y) = g(x) . h(y), and the log-baseline b(y), each an MLP of two hidden layers (as released, but 256 wide)."""

    def __init__(self, student_width: int, teacher_width: int, hidden: int = 256, out: int = 64) -> None:
        super().__init__()
        self.of_student = _mlp(student_width, hidden, out)
        self.of_teacher = _mlp(teacher_width, hidden, out)
        self.baseline = _mlp(teacher_width, hidden, 1)

    def forward(
        self, student: Float[Tensor, "batch student"], teacher: Float[Tensor, "batch teacher"]
    ) -> tuple[Scores, Float[Tensor, " batch"]]:
        """Scores [teacher rows, student columns] and the rows' baselines."""
        scores = self.of_teacher(teacher) @ self.of_student(student).T
        return scores, self.baseline(teacher).squeeze(-1)


def _mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)
    )
