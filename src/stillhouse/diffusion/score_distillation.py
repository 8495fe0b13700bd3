"""Score distillation: one engine for DMD2, DisBack, multi-student distillation and SwiftBrush.

A student G is trained by the difference of two scores of its own noised samples: the target score (a frozen teacher,
or a schedule of them) and the fake score (a critic that is fitted to G's samples as they change). A head on named
features may add a GAN loss on real images. Which network is updated at which step is a declared table, `recipe.Cadence`.

Every step draws the random numbers of the whole batch at once and then works through its parts, so that gradient
accumulation and several processes change nothing but the order of sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from stillhouse.core.checkpoint import TrainedWeights
from stillhouse.core.distributed import average_gradients, average_scalars, world_size
from stillhouse.core.ema import Ema
from stillhouse.core.ledger import Ledger
from stillhouse.core.training import Stateful
from stillhouse.diffusion.conditions import ConditionSource
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.discriminator import DiscriminatorHead
from stillhouse.diffusion.draw import CRITIC, FAKE, GENERATOR_GAN, MATCHING, REAL, Draw, Images, RealImages
from stillhouse.diffusion.gan_balance import GanBalance
from stillhouse.diffusion.losses import (
    denoising_loss,
    discriminator_loss,
    generator_gan_loss,
    stop_gradient_loss,
)
from stillhouse.diffusion.pairs import Regression
from stillhouse.diffusion.recipe import Recipe
from stillhouse.diffusion.samplers import guided, guided_passes


class TargetScore(Protocol):
    """The score that the student is moved towards, and when it changes."""

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, guidance_scale: float) -> Tensor:
        """The target's denoised image of the noised x."""
        ...

    def after_student_update(self, score_gap: float) -> None:
        """Told after every student update how far the fake score is from the target."""
        ...

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class ConstantTarget:
    """The teacher, always (DMD2)."""

    def __init__(self, teacher: Denoiser) -> None:
        self.teacher = teacher

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, guidance_scale: float) -> Tensor:
        return guided(self.teacher, condition, guidance_scale)(x, sigma)

    def after_student_update(self, score_gap: float) -> None:
        """Nothing changes."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""


@dataclass(frozen=True)
class Discriminator:
    """A head on features of a network: the fake score, as published, or the teacher."""

    head: DiscriminatorHead
    features: Denoiser
    at: str = "mid_block"

    def logits(self, x: Images, sigma: Tensor, noise: Images, condition: Tensor | None) -> Float[Tensor, " batch"]:
        """Logit of each image after noising it."""
        noised = x + sigma[:, None, None, None] * noise
        return self.head(self.features.features(noised, sigma, condition, self.at))


class ScoreDistillation:
    """Trains a student against a target score with a fake score beside it; see the module's docstring.

    Args:
        student: network of the generator; its parameters that require gradients are trained. Of a frozen student, which
            has none, only the samples are learned by the fake score.
        target: the target score.
        fake_score: the critic network, or None for score distillation sampling (arXiv 2209.14988), where the
            student's own image takes its place.
        conditions: conditions by label.
        data: real images (may be None for image-free distillation) and the labels to draw.
        recipe: the numbers.
        discriminator: for the GAN loss; needs real images.
        regression: of a one-step student on the teacher's noise-image pairs, beside the matching loss.
    """

    def __init__(
        self,
        student: Denoiser,
        target: TargetScore,
        fake_score: Denoiser | None,
        conditions: ConditionSource,
        data: RealImages,
        recipe: Recipe,
        discriminator: Discriminator | None = None,
        regression: Regression | None = None,
    ) -> None:
        self.student, self.target, self.fake_score = student, target, fake_score
        self.conditions, self.data, self.recipe, self.discriminator = conditions, data, recipe, discriminator
        self.regression = regression
        self.ema = Ema(student, recipe.ema_decay)
        self.ledger = Ledger()
        self.gan_balance = GanBalance(recipe.gan_weight if discriminator else 0.0, recipe.gan_share)
        self.student_optimizer = self._optimizer([(recipe.student_lr, student)])
        self.critic_optimizer = self._optimizer(
            [(recipe.fake_lr, fake_score), (recipe.head_lr, discriminator.head if discriminator else None)]
        )

    @property
    def state(self) -> dict[str, Stateful]:
        """Everything a checkpoint must hold."""
        state: dict[str, Stateful] = {
            "student": self.student,
            "student_ema": self.ema,
            "target": self.target,
            "ledger": self.ledger,
            "gan_balance": self.gan_balance,
        }
        if self.student_optimizer:
            state["student_optimizer"] = self.student_optimizer
        if self.fake_score:
            state["fake_score"] = TrainedWeights(self.fake_score)
        if self.discriminator:
            state["discriminator"] = self.discriminator.head
        if self.critic_optimizer:
            state["critic_optimizer"] = self.critic_optimizer
        return state

    def step(self, i: int) -> dict[str, float]:
        """Step i: the networks whose turn it is, on one batch; returns the losses."""
        parts = list(self.draw().parts(self.recipe.micro_batches))
        losses: dict[str, float] = {}
        generated: list[Images] = []
        critics_turn = self.critic_optimizer is not None and i % self.recipe.cadence.fake_score == 0
        if self.student_optimizer and i % self.recipe.cadence.student == 0:
            generated = self._update_student(i, parts, losses)
        elif critics_turn:
            generated = [self._generated(part) for part in parts]
        if critics_turn:
            self._update_critic(i, parts, generated, losses)
        return average_scalars(losses)

    def draw(self) -> Draw:
        """The step's random numbers, for the batch of all processes; from the global generator."""
        recipe, data = self.recipe, self.data
        batch, shape, device = recipe.batch, self.student.sample_shape, data.labels.device
        real_index = torch.randint(len(data.labels), (batch,)).to(device)
        label_index = torch.randint(len(data.labels), (batch,)).to(device)
        if recipe.inputs == "noised-real":
            label_index = real_index
        positions, noises = torch.rand(batch, 5), torch.randn(batch, 5, *shape)
        low, high = recipe.matching_range
        positions[:, MATCHING] = low + (high - low) * positions[:, MATCHING]
        return Draw(
            labels=data.labels[label_index],
            student_noise=torch.randn(batch, len(recipe.sigmas), *shape).to(device),
            real=None if data.images is None else data.images[real_index],
            real_labels=data.labels[real_index],
            positions=positions.to(device),
            noises=noises.to(device),
            level=int(torch.randint(len(recipe.sigmas), ())),
            without_condition=recipe.null_share > 0 and float(torch.rand(())) < recipe.null_share,
            pairs=self.regression.draw(batch) if self.regression else None,
        )

    def generate(self, part: Draw) -> Images:
        """The student's image of this part at the step's level, differentiable in the last pass."""
        condition, level = self.conditions.of(part.labels), part.level
        if level == 0 or self.recipe.inputs == "backward-simulation":
            x = self.backward_simulation(part, condition, level)
        else:
            assert part.real is not None
            x = part.real + self.recipe.sigmas[level] * part.student_noise[:, level]
        return self.student(x, self._level(x, level), condition)

    @torch.no_grad()
    def backward_simulation(self, part: Draw, condition: Tensor | None, level: int) -> Images:
        """The student's input at `level`, reached from pure noise by its own earlier steps (DMD2, section 4.5)."""
        sigmas, noise = self.recipe.sigmas, part.student_noise
        x = sigmas[0] * noise[:, 0]
        for now in range(level):
            clean = self.student(x, self._level(x, now), condition)
            self._count(len(x))
            x = clean + sigmas[now + 1] * noise[:, now + 1]
        return x

    def _level(self, x: Images, level: int) -> Float[Tensor, " batch"]:
        return torch.full((len(x),), self.recipe.sigmas[level], device=x.device)

    @torch.no_grad()
    def _generated(self, part: Draw) -> Images:
        self._count(len(part.labels))
        return self.generate(part)

    # ---- the student's turn

    def _update_student(self, i: int, parts: Sequence[Draw], losses: dict[str, float]) -> list[Images]:
        assert self.student_optimizer
        self.student_optimizer.zero_grad()
        generated, size = [], sum(len(part.labels) for part in parts)
        for part in parts:
            x = self.generate(part)
            self._count(2 * len(x))
            share = len(x) / size
            x.backward(share * self._image_gradient(x.detach().requires_grad_(), part, share, losses))
            generated.append(x.detach())
            if self.regression:
                self._regress(self.regression, part, share, losses)
        losses["student_gradient"] = self._take_step(i, self.student_optimizer)
        self.ema.update()
        self.ledger.add("student_updates")
        self.gan_balance.after_student_update(average_scalars)
        self.target.after_student_update(average_scalars(dict(losses)).get("score_gap", 0.0))
        return generated

    def _image_gradient(self, x: Images, part: Draw, share: float, losses: dict[str, float]) -> Images:
        """d(matching_weight L_DM + gan_weight L_GAN) / dx for this part's generated images."""
        total = torch.zeros_like(x)
        matching = torch.zeros_like(x)
        if self.recipe.matching_weight > 0:
            loss = self._matching_loss(x, part, share, losses)
            (matching,) = torch.autograd.grad(self.recipe.matching_weight * loss, x)
            _add(losses, "matching", share * loss.item())
            total = total + matching
        if self.discriminator and self.recipe.gan_weight != 0:
            loss = generator_gan_loss(self._logits(x, part, GENERATOR_GAN, part.labels))
            (adversarial,) = torch.autograd.grad(loss, x)
            _add(losses, "generator_gan", share * loss.item())
            self.gan_balance.see(share * matching, share * adversarial)
            total = total + self.gan_balance.weight * adversarial
        return total

    def _matching_loss(self, x: Images, part: Draw, share: float, losses: dict[str, float]) -> Float[Tensor, ""]:
        recipe, condition = self.recipe, self.conditions.of(part.labels)
        with torch.no_grad():
            sigma = self.student.preconditioning.sigma(part.positions[:, MATCHING])
            noised = x + sigma[:, None, None, None] * part.noises[:, MATCHING]
            real = self.target.denoise(noised, sigma, condition, recipe.guidance_scale)
            fake = x
            self._count(len(x) * guided_passes(recipe.guidance_scale))
            if self.fake_score:
                fake = guided(self.fake_score, condition, recipe.fake_guidance_scale)(noised, sigma)
                self._count(len(x) * guided_passes(recipe.fake_guidance_scale))
            weight = recipe.matching_weighting(sigma)[:, None, None, None]
            gradient = weight * recipe.matching_gradient(x, fake, real)
            _add(losses, "score_gap", share * float((fake - real).abs().mean()))
        return stop_gradient_loss(x, gradient)

    def _regress(self, regression: Regression, part: Draw, share: float, losses: dict[str, float]) -> None:
        """Add the gradient of weight L_reg on this part's pairs."""
        assert part.pairs is not None
        loss = regression.loss(self.student, self.recipe.sigmas[0], self.conditions, part.pairs)
        self._count(2 * len(part.pairs))
        (share * regression.weight * loss).backward()
        _add(losses, "regression", share * loss.item())

    # ---- the critic's turn

    def _update_critic(
        self, i: int, parts: Sequence[Draw], generated: Sequence[Images], losses: dict[str, float]
    ) -> None:
        assert self.critic_optimizer
        self.critic_optimizer.zero_grad()
        size = sum(len(part.labels) for part in parts)
        for part, x in zip(parts, generated, strict=True):
            loss = torch.zeros((), device=x.device)
            share = len(x) / size
            if self.fake_score:
                fake_loss = self._fake_score_loss(self.fake_score, x, part)
                _add(losses, "fake_score", share * fake_loss.item())
                loss = loss + fake_loss
            if self.discriminator:
                gan_loss = self._discriminator_loss(x, part)
                _add(losses, "discriminator", share * gan_loss.item())
                loss = loss + (self.recipe.critic_gan_weight if self.fake_score else 1.0) * gan_loss
            (share * loss).backward()
        losses["critic_gradient"] = self._take_step(i, self.critic_optimizer)
        self.ledger.add("fake_score_updates")

    def _fake_score_loss(self, fake_score: Denoiser, x: Images, part: Draw) -> Float[Tensor, ""]:
        sigma = fake_score.preconditioning.sigma(part.positions[:, CRITIC])
        noised = x + sigma[:, None, None, None] * part.noises[:, CRITIC]
        condition = self.conditions.of(part.labels)
        if part.without_condition and condition is not None:
            condition = fake_score.null_like(condition)
        denoised = fake_score(noised, sigma, condition)
        self._count(2 * len(x))
        weight = fake_score.preconditioning.loss_weight(sigma) * self.recipe.fake_weighting(sigma)
        return denoising_loss(denoised, x, weight)

    def _discriminator_loss(self, x: Images, part: Draw) -> Float[Tensor, ""]:
        assert part.real is not None
        fake = self._logits(x, part, FAKE, part.labels)
        real = self._logits(part.real, part, REAL, part.real_labels)
        return discriminator_loss(real, fake)

    def _logits(self, x: Images, part: Draw, use: int, labels: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        assert self.discriminator is not None
        sigma = self.student.preconditioning.sigma(part.positions[:, use])
        self._count(2 * len(x))
        return self.discriminator.logits(x, sigma, part.noises[:, use], self.conditions.of(labels))

    # ---- counting, optimizers

    def _count(self, passes: int) -> None:
        """Passes of this process's part, on behalf of all processes."""
        self.ledger.add("network_passes", passes * world_size())

    def _optimizer(self, rates: Sequence[tuple[float, nn.Module | None]]) -> torch.optim.Optimizer | None:
        """AdamW over the trainable parameters of each network at its rate, or None where there are none."""
        trainable = [(rate, [p for p in n.parameters() if p.requires_grad]) for rate, n in rates if n is not None]
        groups = [{"params": parameters, "lr": rate, "full_lr": rate} for rate, parameters in trainable if parameters]
        if not groups:
            return None
        return torch.optim.AdamW(groups, betas=self.recipe.betas, weight_decay=self.recipe.weight_decay)

    def _take_step(self, i: int, optimizer: torch.optim.Optimizer) -> float:
        """Update, and return the gradient's norm: where that is not finite, `fit` keeps the state before it."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        average_gradients(parameters)
        norm = clip_grad_norm_(parameters, self.recipe.clip).item()
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * self.recipe.rate_share(i)
        optimizer.step()
        return norm


def _add(losses: dict[str, float], name: str, value: float) -> None:
    losses[name] = losses.get(name, 0.0) + value
