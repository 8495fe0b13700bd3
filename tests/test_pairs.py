"""The teacher's noise-image pairs and the regression on them, where the teacher's flow is known exactly."""

import pytest
import torch

from gaussian import AffineStudent, GaussianDenoiser
from stillhouse.core.cache import cache_root
from stillhouse.core.errors import UserError
from stillhouse.core.seeding import seed_everything
from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.pairs import FILE, Regression, teacher_pairs
from stillhouse.diffusion.recipe import Cadence, Recipe
from stillhouse.diffusion.score_distillation import ConstantTarget, ScoreDistillation

NOTHING = Conditions(("all",), None)
LABELS = torch.arange(40) % 4
MEAN, SCALE = 0.3, 0.5


class Teacher(GaussianDenoiser):
    config, autocast_dtype = {}, None


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))


def pairs_of(teacher, count=300, steps=18, weights="gaussian"):
    return teacher_pairs(teacher, NOTHING, LABELS, count, steps, 1.0, weights)


def engine(pairs, weight=1.0, **recipe):
    teacher, student = Teacher(MEAN, SCALE), AffineStudent(0.0, 1.0)
    numbers = Recipe(batch=64, cadence=Cadence(1, 1), student_lr=0.02, weight_decay=0.0, matching_weight=0.0, **recipe)
    data = RealImages(None, torch.zeros(8, dtype=torch.long))
    regression = Regression(pairs, weight) if pairs else None
    return ScoreDistillation(student, ConstantTarget(teacher), None, NOTHING, data, numbers, regression=regression)


def test_pairs_are_the_ends_of_the_teachers_flow(own_cache):
    """dx/ds of a Gaussian: x(0) = mean + (80 z - mean) scale / sqrt(scale^2 + 80^2); Heun in 200 steps comes close."""
    pairs = pairs_of(Teacher(MEAN, SCALE), steps=200)
    wanted = MEAN + (80 * pairs.noise - MEAN) * SCALE / (SCALE**2 + 80**2) ** 0.5
    torch.testing.assert_close(pairs.images, wanted, rtol=0, atol=2e-3)
    assert pairs.passes == 300 * 399
    assert set(pairs.labels.tolist()) == {0, 1, 2, 3}


def test_pairs_are_made_once_for_a_teacher(own_cache):
    teacher = Teacher(MEAN, SCALE)
    one = pairs_of(teacher)
    made = teacher.passes
    two = pairs_of(teacher)
    assert teacher.passes == made == one.passes == 300 * 35
    assert one.images.equal(two.images) and one.noise.equal(two.noise) and one.seconds == two.seconds
    assert not pairs_of(Teacher(-MEAN, SCALE), weights="another").images.equal(one.images)


def test_damaged_pairs_are_one_line(own_cache):
    pairs_of(Teacher(MEAN, SCALE))
    (file,) = cache_root().glob(f"pairs/*/{FILE}")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"pairs in .* are damaged"):
        pairs_of(Teacher(MEAN, SCALE))


def test_regression_is_the_mean_square_and_zero_for_the_teachers_own_flow(own_cache):
    """G(80 z) = mean + scale z is the flow up to 1e-4; shifted by d, L_reg is d^2 and its gradient 2 d."""
    regression = Regression(pairs_of(Teacher(MEAN, SCALE), steps=200), 1.0)
    index = torch.arange(300)
    exact, shifted = AffineStudent(MEAN, SCALE), AffineStudent(MEAN + 0.2, SCALE)
    assert regression.loss(exact, 80.0, NOTHING, index).item() < 1e-5
    loss = regression.loss(shifted, 80.0, NOTHING, index)
    loss.backward()
    assert loss.item() == pytest.approx(0.04, rel=0.02)
    assert shifted.shift.grad.item() == pytest.approx(0.4, rel=0.02)


def test_engine_learns_the_flow_from_pairs_alone_and_counts_its_passes(own_cache):
    trained = engine(pairs_of(Teacher(MEAN, SCALE)))
    for i in range(150):
        seed_everything(0, "steps", i)
        losses = trained.step(i)
    assert losses["regression"] < 1e-3
    assert trained.student.shift.item() == pytest.approx(MEAN, abs=0.03)
    assert trained.student.gain.item() == pytest.approx(SCALE, abs=0.03)
    # an update: the student's image, forward and backward, and the regression's, forward and backward
    assert trained.ledger["network_passes"] == 150 * 64 * 4


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_micro_batches_change_nothing_and_the_weight_scales_the_gradient(own_cache, weight):
    pairs, norms = pairs_of(Teacher(MEAN, SCALE)), []
    for parts, share in ((1, 1.0), (4, 1.0), (1, weight)):
        one = engine(pairs, share, micro_batches=parts, clip=1e9)
        seed_everything(0, "step")
        norms.append(one.step(0)["student_gradient"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert norms[2] == pytest.approx(weight * norms[0], rel=1e-4)


def test_an_engine_without_pairs_draws_what_it_always_drew(own_cache):
    one, two = engine(None), engine(pairs_of(Teacher(MEAN, SCALE)))
    draws = []
    for each in (one, two):
        seed_everything(0, "draw")
        draws.append(each.draw())
    assert draws[0].pairs is None
    assert all(draws[0].__dict__[name].equal(draws[1].__dict__[name]) for name in ("labels", "positions", "noises"))
