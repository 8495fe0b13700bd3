"""Losses, bounds and mappings of the text workbench against closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch

from stillhouse.core.errors import UserError
from stillhouse.encoders import losses
from stillhouse.encoders.mapping import attention_pairs, hidden_pairs, reweighted, transport, uniform
from stillhouse.encoders.mutual_information import (
    SeparableCritic,
    infonce_bound,
    interpolated_bound,
    leave_one_out_baseline,
    nwj_bound,
)


def naive_bound(scores, baseline, alpha):
    """I_alpha written out with loops, in Python's own numbers."""
    k = len(scores)
    s = scores.tolist()

    def m(i, j):
        return math.log(sum(math.exp(s[i][c]) for c in range(k) if c != j) / (k - 1))

    def log_baseline(i, j):
        return math.log(alpha * math.exp(m(i, j)) + (1 - alpha) * math.exp(baseline[i]))

    apart = [(i, j) for i in range(k) for j in range(k) if i != j]
    joint = sum(s[i][i] - log_baseline(i, j) for i, j in apart) / len(apart)
    marginal = sum(math.exp(s[i][j] - log_baseline(i, i)) for i, j in apart) / len(apart)
    return 1 + joint - marginal


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bound_is_its_formula(alpha):
    torch.manual_seed(0)
    scores, baseline = torch.randn(6, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    assert float(interpolated_bound(scores, baseline, alpha)) == pytest.approx(
        naive_bound(scores, baseline, alpha), abs=1e-10
    )


def test_bound_at_alpha_1_is_the_leave_one_out_bound_and_at_0_tuba():
    torch.manual_seed(1)
    scores = torch.randn(5, 5, dtype=torch.float64)
    apart = ~torch.eye(5, dtype=torch.bool)
    m = leave_one_out_baseline(scores)
    joint = (scores.diagonal()[:, None] - m)[apart].mean()
    nce = 1 + joint - (scores - m.diagonal()[:, None])[apart].exp().mean()
    assert float(interpolated_bound(scores, torch.full((5,), 99.0), 1.0)) == pytest.approx(float(nce))
    tuba = 1 + scores.diagonal().mean() - scores[apart].exp().mean()
    assert float(interpolated_bound(scores, torch.zeros(5, dtype=torch.float64), 0.0)) == pytest.approx(float(tuba))
    nwj = 1 + (scores.diagonal() - 1).mean() - (scores - 1)[apart].exp().mean()
    assert float(nwj_bound(scores)) == pytest.approx(float(nwj))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_bound_of_equal_scores_is_zero(alpha):
    scores = torch.full((4, 4), 2.5)
    assert float(interpolated_bound(scores, torch.full((4,), 2.5), alpha)) == pytest.approx(0, abs=1e-6)
    assert float(infonce_bound(scores)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0])
def test_bound_has_finite_gradients_for_wild_scores(alpha):
    torch.manual_seed(0)
    scores = (100 * torch.rand(8, 8) - 50).requires_grad_()
    interpolated_bound(scores, torch.zeros(8), alpha).backward()
    assert scores.grad.isfinite().all()


def test_critic_scores_have_teacher_rows_and_a_baseline_of_the_teacher():
    torch.manual_seed(0)
    critic = SeparableCritic(3, 5, 16, 4)
    student, teacher = torch.randn(6, 3), torch.randn(6, 5)
    scores, baseline = critic(student, teacher)
    changed, same = critic(student.roll(1, 0), teacher)
    assert scores.shape == (6, 6)
    assert torch.allclose(changed, scores.roll(1, 1), atol=1e-6)
    assert baseline.equal(same)


def test_critic_tells_dependence_from_independence():
    torch.manual_seed(0)
    found = []
    for rho in (0.95, 0.0):
        critic = SeparableCritic(4, 4, 32, 8)
        optimizer = torch.optim.Adam(critic.parameters(), 5e-3)
        values = []
        for _ in range(120):
            x = torch.randn(32, 4)
            y = rho * x + (1 - rho**2) ** 0.5 * torch.randn(32, 4)
            bound = interpolated_bound(*critic(x, y), 0.5)
            optimizer.zero_grad()
            (-bound).backward()
            optimizer.step()
            values.append(float(bound.detach()))
        found.append(np.mean(values[-20:]))
    assert found[0] > 1.0 > 0.3 > found[1]


def states(batch=3, tokens=5, width=4):
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], dtype=torch.bool)
    return torch.randn(batch, tokens, width), torch.randn(batch, tokens, width), mask


@pytest.mark.parametrize("loss", losses.HIDDEN.values())
def test_hidden_losses_do_not_see_padding(loss):
    student, teacher, mask = states()
    noisy = torch.where(mask[..., None], student, student + 100 * torch.randn_like(student))
    assert float(loss(noisy, teacher, mask)) == pytest.approx(float(loss(student, teacher, mask)), rel=1e-5)


@pytest.mark.parametrize("name", ["mse", "cos"])
def test_hidden_losses_vanish_where_states_agree(name):
    student, _, mask = states()
    assert float(losses.HIDDEN[name](student, student, mask)) == pytest.approx(0, abs=1e-6)
    assert float(losses.HIDDEN[name](-student, student, mask)) > 0.5


def test_hidden_ce_is_least_where_states_agree():
    student, teacher, mask = states()
    p = teacher.softmax(-1)
    entropy = losses.masked_mean(-(p * p.log()).sum(-1), mask)
    assert float(losses.hidden_ce(teacher, teacher, mask)) == pytest.approx(float(entropy), rel=1e-5)
    assert float(losses.hidden_ce(student, teacher, mask)) > float(entropy)


def test_pkd_looks_at_directions_only():
    student, teacher, _ = states()
    one = losses.hidden_pkd(student[:, 0], teacher[:, 0])
    cosine = torch.nn.functional.cosine_similarity(student[:, 0], teacher[:, 0])
    assert float(one) == pytest.approx(float((2 - 2 * cosine).mean()), rel=1e-5)
    assert float(losses.hidden_pkd(7 * student[:, 0], teacher[:, 0])) == pytest.approx(float(one), rel=1e-5)
    assert float(losses.hidden_l2(student[:, 0], student[:, 0])) == 0


def attention(heads, mask):
    scores = torch.randn(mask.shape[0], heads, mask.shape[1], mask.shape[1])
    return scores.masked_fill(~mask[:, None, None, :], -math.inf).softmax(-1)


@pytest.mark.parametrize("name", losses.ATTENTION)
def test_attention_losses_are_least_at_agreement_and_blind_to_padded_queries(name):
    mask = states()[2]
    ours, theirs = attention(2, mask), attention(2, mask)
    loss = losses.ATTENTION[name]
    assert float(loss(theirs, theirs, mask)) < float(loss(ours, theirs, mask))
    noisy = torch.where(mask[:, None, :, None], ours, torch.rand_like(ours))
    assert float(loss(noisy, theirs, mask)) == pytest.approx(float(loss(ours, theirs, mask)), rel=1e-5)


def test_attention_losses_of_unequal_heads():
    mask = states()[2]
    one, two = attention(1, mask), attention(2, mask)
    with pytest.raises(ValueError, match="1 heads against 2"):
        losses.attention_mse(one, two, mask)
    assert losses.attention_mse_sum(one, two, mask).isfinite() and losses.attention_ce_mean(one, two, mask).isfinite()


def test_prediction_losses():
    torch.manual_seed(0)
    ours, theirs = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    p = (theirs / 2).softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean() * 4
    ce, kl = losses.prediction_ce(ours, theirs, 2.0), losses.prediction_kl(ours, theirs, 2.0)
    assert float((ce - kl).detach()) == pytest.approx(float(entropy), rel=1e-5)
    assert float(losses.prediction_mse(theirs, theirs, 3.0)) == 0
    sizes = [
        torch.autograd.grad(losses.prediction_ce(ours, theirs, tau), ours)[0].norm() for tau in (20.0, 40.0)
    ]  # at high temperatures the gradient is (z_S - z_T) / classes, whatever the temperature
    assert float(sizes[0] / sizes[1]) == pytest.approx(1, abs=0.02)


def test_hard_labels_leave_out_what_has_none():
    logits = torch.randn(4, 3, requires_grad=True)
    known = losses.hard_label_loss(logits, torch.tensor([0, -1, 2, -1])).detach()
    assert float(known) == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits.detach()[[0, 2]], torch.tensor([0, 2])))
    )
    assert float(losses.hard_label_loss(logits, torch.full((4,), -1)).detach()) == 0


def test_collapse():
    torch.manual_seed(0)
    alike = torch.ones(16, 8) + 1e-4 * torch.randn(16, 8)
    assert losses.collapse(alike)[0] > 0.99
    cosine, rank = losses.collapse(torch.randn(200, 8))
    assert abs(cosine) < 0.05 and rank > 7


def test_mappings_are_the_released_tables():
    assert hidden_pairs("skip", 4, 12) == ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))
    assert hidden_pairs("last", 4, 12) == ((0, 8), (1, 9), (2, 10), (3, 11), (4, 12))
    assert attention_pairs("skip", 4, 12) == ((0, 2), (1, 5), (2, 8), (3, 11))
    assert attention_pairs("last", 2, 6) == ((0, 4), (1, 5))
    assert len(hidden_pairs("emd", 2, 6)) == 21 and len(attention_pairs("emd", 2, 6)) == 12
    with pytest.raises(UserError, match="fewer layers"):
        hidden_pairs("skip", 7, 6)


def test_transport_is_the_cheapest_flow():
    costs = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, 2.0], [2.0, 0.0, 1.0]])
    flow = transport(costs, uniform(3), uniform(3))
    assert np.allclose(flow.sum(0), 1 / 3) and np.allclose(flow.sum(1), 1 / 3) and (flow >= 0).all()
    # with uniform weights the optimum is a matching
    best = min(sum(costs[i, p[i]] for i in range(3)) / 3 for p in itertools.permutations(range(3)))
    assert (flow * costs).sum() == pytest.approx(best)


def test_transport_keeps_unequal_sums():
    ours, theirs = np.array([0.7, 0.3]), np.array([0.1, 0.2, 0.7])
    flow = transport(np.arange(6.0).reshape(2, 3), ours, theirs)
    assert np.allclose(flow.sum(1), ours) and np.allclose(flow.sum(0), theirs)


def test_cheap_layers_get_more_weight():
    costs = np.array([[0.0, 1.0], [5.0, 6.0]])
    flow = transport(costs, uniform(2), uniform(2))
    weights = reweighted(flow, costs, uniform(2), 0, 20.0)
    assert weights.sum() == pytest.approx(1) and weights[0] > weights[1]
