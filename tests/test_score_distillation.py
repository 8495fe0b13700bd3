"""Score distillation against closed forms and invariants."""

import copy

import pytest
import torch

from gaussian import AffineStudent, GaussianDenoiser
from stillhouse.core.seeding import seed_everything
from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.discriminator import DiscriminatorHead, feature_shape
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.gan_balance import GanBalance
from stillhouse.diffusion.losses import (
    denoising_loss,
    discriminator_loss,
    generator_gan_loss,
    matching_gradient,
    plain_matching_gradient,
    stop_gradient_loss,
)
from stillhouse.diffusion.preconditioning import Edm
from stillhouse.diffusion.recipe import Cadence, Recipe
from stillhouse.diffusion.score_distillation import ConstantTarget, Discriminator, ScoreDistillation
from test_diffusion import tiny_unet

NOTHING = Conditions(("all",), None)
LABELS = torch.zeros(16, dtype=torch.long)


def gaussian_engine(student, teacher, fake, **recipe):
    recipe = {"batch": 256, "cadence": Cadence(1, 1), "sigmas": (80.0,), **recipe}
    return ScoreDistillation(
        student, ConstantTarget(teacher), fake, NOTHING, RealImages(None, LABELS), Recipe(**recipe)
    )


def real_engine(micro_batches=1, gan_weight="auto", **recipe):
    seed_everything(0, "test")
    teacher = Denoiser(tiny_unet(num_class_embeds=4), Edm(), torch.tensor(3)).requires_grad_(False)
    student, fake = copy.deepcopy(teacher).requires_grad_(True), copy.deepcopy(teacher).requires_grad_(True)
    conditions = Conditions(("a", "b", "c"), torch.arange(3))
    head = DiscriminatorHead(*feature_shape(fake, torch.tensor([0]), "mid_block"))
    data = RealImages(torch.randn(12, 1, 8, 8), torch.arange(12) % 3)
    numbers = Recipe(batch=8, micro_batches=micro_batches, gan_weight=gan_weight, **recipe)
    return ScoreDistillation(
        student, ConstantTarget(teacher), fake, conditions, data, numbers, Discriminator(head, fake)
    )


def run_steps(engine, steps):
    losses = []
    for i in range(steps):
        seed_everything(0, "steps", i)
        losses.append(engine.step(i))
    return losses


# ---- losses


def test_stop_gradient_loss_has_gradient_g_over_n():
    x, g = torch.randn(3, 1, 4, 4, requires_grad=True), torch.randn(3, 1, 4, 4)
    (gradient,) = torch.autograd.grad(stop_gradient_loss(x, g), x)
    torch.testing.assert_close(gradient, g / x.numel())


def test_matching_gradient_is_the_difference_of_gaussian_scores():
    """For Gaussian teacher and generator, (D_fake - D_real) / s^2 = s_fake - s_real exactly."""
    x, sigma = torch.randn(5, 1, 2, 2, dtype=torch.float64), torch.full((5,), 1.5, dtype=torch.float64)
    noised = x + 1.5 * torch.randn_like(x)
    real, fake = GaussianDenoiser(0.4, 0.5), GaussianDenoiser(-0.3, 0.8)

    def score(mean, scale):
        return -(noised - mean) / (scale**2 + 1.5**2)

    gradient = plain_matching_gradient(x, fake(noised, sigma), real(noised, sigma))
    torch.testing.assert_close(gradient / 1.5**2, score(-0.3, 0.8) - score(0.4, 0.5))
    weighted = matching_gradient(x, fake(noised, sigma), real(noised, sigma))
    scale = (x - real(noised, sigma)).abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(weighted * scale, gradient)


def test_gan_losses_at_known_logits():
    zero = torch.zeros(4)
    assert generator_gan_loss(zero).item() == pytest.approx(0.693147, abs=1e-5)
    assert discriminator_loss(zero, zero).item() == pytest.approx(2 * 0.693147, abs=1e-5)
    assert discriminator_loss(torch.full((4,), 50.0), torch.full((4,), -50.0)).item() == pytest.approx(0, abs=1e-6)
    assert generator_gan_loss(torch.full((4,), -50.0)).item() == pytest.approx(50)


def test_denoising_loss_weights_each_image():
    denoised, clean = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    assert denoising_loss(denoised, clean, torch.tensor([2.0, 4.0])).item() == 3.0


# ---- the engine on Gaussians


def test_fake_equal_to_teacher_gives_no_gradient():
    teacher, student = GaussianDenoiser(0.4, 0.5), AffineStudent(-1.0)
    engine = gaussian_engine(student, teacher, GaussianDenoiser(0.4, 0.5))
    run_steps(engine, 1)
    assert student.shift.grad.item() == 0.0


def test_student_gradient_has_the_closed_form():
    """With plain weights, d/dshift = E[(s_fake - s_real) s^2] summed over pixels / N pixels, and it points home."""
    teacher, fake = GaussianDenoiser(0.4, 1.0), GaussianDenoiser(-1.0, 1.0)
    student = AffineStudent(-1.0)
    engine = gaussian_engine(
        student, teacher, fake, matching_gradient=plain_matching_gradient, clip=1e9, matching_range=(0.5, 0.5)
    )
    run_steps(engine, 1)
    s2 = float(Edm().sigma(torch.tensor([0.5]))) ** 2
    assert student.shift.grad.item() == pytest.approx(s2 / (1 + s2) * (-1.0 - 0.4), rel=1e-4)


def test_student_finds_the_teachers_mean_with_a_true_fake_score():
    class Following(GaussianDenoiser):
        """The exact fake score of the student as it is now."""

        def forward(self, x, sigma, condition=None):
            self.mean, self.scale = student.shift.detach(), student.gain.detach().abs()
            return super().forward(x, sigma, condition)

    student = AffineStudent(-1.0, 0.3)
    engine = gaussian_engine(student, GaussianDenoiser(0.4, 0.5), Following(0, 1), student_lr=0.02, weight_decay=0.0)
    run_steps(engine, 400)
    assert student.shift.item() == pytest.approx(0.4, abs=0.03)
    assert abs(student.gain.item()) == pytest.approx(0.5, abs=0.05)


def test_without_a_fake_score_the_student_seeks_the_mode():
    """Score distillation sampling collapses a Gaussian to its mean; that is why the fake score is there."""
    student = AffineStudent(-1.0, 0.3)
    engine = gaussian_engine(student, GaussianDenoiser(0.4, 0.5), None, student_lr=0.02, weight_decay=0.0)
    run_steps(engine, 400)
    assert student.shift.item() == pytest.approx(0.4, abs=0.05)
    assert abs(student.gain.item()) < 0.1


# ---- the engine on networks


def test_accumulation_changes_nothing_but_the_order_of_sums():
    whole, parts = real_engine(1), real_engine(8)
    losses = zip(run_steps(whole, 7), run_steps(parts, 7), strict=True)
    for one, two in losses:
        assert one == pytest.approx(two, rel=1e-3)
    for one, two in zip(whole.student.parameters(), parts.student.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=2e-5)


def test_cadence_is_what_the_table_says():
    engine = real_engine(cadence=Cadence(student=3, fake_score=2))
    run_steps(engine, 12)
    assert engine.ledger["student_updates"] == 4
    assert engine.ledger["fake_score_updates"] == 6


def test_only_the_network_whose_turn_it_is_moves():
    engine = real_engine(cadence=Cadence(student=2, fake_score=1))
    networks = {
        "student": engine.student,
        "fake": engine.fake_score,
        "head": engine.discriminator.head,
        "teacher": engine.target.teacher,
    }

    def weights():
        return {name: torch.cat([p.detach().flatten() for p in n.parameters()]) for name, n in networks.items()}

    before = weights()
    seed_everything(0, "steps", 1)
    engine.step(1)
    after = weights()
    moved = {name for name in networks if not before[name].equal(after[name])}
    assert moved == {"fake", "head"}
    seed_everything(0, "steps", 2)
    engine.step(2)
    assert not after["student"].equal(weights()["student"])
    assert all(p.grad is None for p in engine.target.teacher.parameters())


def test_auto_weight_gives_equal_norms():
    balance = GanBalance("auto")
    matching, adversarial = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    assert balance.weight == 0.0
    balance.see(matching, adversarial)
    balance.after_student_update(lambda values: values)
    torch.testing.assert_close((balance.weight * adversarial).norm(), matching.norm())
    again = GanBalance("auto")
    again.load_state_dict(balance.state_dict())
    assert again.weight == balance.weight


def test_backward_simulation_is_the_students_own_path():
    engine = real_engine(sigmas=(80.0, 5.0, 1.0))
    seed_everything(0, "draw")
    draw = engine.draw()
    condition = engine.conditions.of(draw.labels)
    first = engine.student(80.0 * draw.student_noise[:, 0], torch.full((8,), 80.0), condition)
    second_input = first + 5.0 * draw.student_noise[:, 1]
    torch.testing.assert_close(engine.backward_simulation(draw, condition, 1), second_input)
    assert not engine.backward_simulation(draw, condition, 1).requires_grad


def test_levels_are_drawn_evenly():
    engine = real_engine(sigmas=(80.0, 5.0, 1.0))
    levels = [0, 0, 0]
    for i in range(300):
        seed_everything(0, "levels", i)
        levels[engine.draw().level] += 1
    assert min(levels) > 70


def test_matching_range_bounds_the_noise():
    engine = real_engine()
    positions = torch.cat([engine.draw().positions for _ in range(50)])
    assert positions[:, 0].min() >= 0.02
    assert positions[:, 0].max() <= 0.98
    assert positions[:, 2].max() > 0.985
