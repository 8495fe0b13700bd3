"""The numbers of score distillation, and which network updates when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stillhouse.diffusion.losses import matching_gradient

MatchingGradient = Callable[[Tensor, Tensor, Tensor], Tensor]
Weighting = Callable[[Float[Tensor, " batch"]], Float[Tensor, " batch"]]


@dataclass(frozen=True)
class Cadence:
    """Which network updates at which step: step i updates a network when i is a multiple of its number."""

    student: int = 5
    fake_score: int = 1


@dataclass(frozen=True)
class Recipe:
    """The numbers of score distillation."""

    batch: int = 64
    """Images a step, over all processes."""
    micro_batches: int = 1
    """Parts a step's batch is worked through in (gradient accumulation)."""
    cadence: Cadence = Cadence()
    sigmas: tuple[float, ...] = (80.0,)
    """Noise levels at which the student is called, falling; one pass each."""
    inputs: Literal["backward-simulation", "noised-real"] = "backward-simulation"
    """Where the inputs of a student of several steps come from in training."""
    student_lr: float = 1e-4
    fake_lr: float = 2e-4
    head_lr: float = 1e-3
    """Of the discriminator's head, which starts from nothing while the networks start from the teacher."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    warmup_steps: int = 0
    """Steps over which the learning rates rise from 0."""
    steps: int = 0
    """How many steps there will be; only the cooldown needs to know."""
    cooldown: float = 0.0
    """Share of the steps, at the end, over which the learning rates fall to 0."""
    clip: float = 10.0
    """Largest norm of a network's gradient."""
    ema_decay: float = 0.99
    matching_weight: float = 1.0
    """Weight of the distribution-matching loss; 0 leaves the GAN alone."""
    matching_gradient: MatchingGradient = matching_gradient
    matching_weighting: Weighting = torch.ones_like
    """Weight w(t) of the matching gradient, beside what `matching_gradient` does."""
    fake_weighting: Weighting = torch.ones_like
    """Weight of the fake score's loss, beside the model's own."""
    matching_range: tuple[float, float] = (0.02, 0.98)
    """Part of the model's noise grid that the distribution-matching loss draws from."""
    gan_weight: float | Literal["auto"] = 0.0
    """Weight of the generator's GAN loss, or "auto": by the gradients' norms on the image."""
    gan_share: float = 1.0
    """Under "auto", norm of the GAN's gradient on the image as a share of the matching loss's."""
    critic_gan_weight: float = 0.01
    """Weight of the discriminator's loss beside the fake score's."""
    guidance_scale: float = 1.0
    """Classifier-free guidance of the target score."""
    fake_guidance_scale: float = 1.0
    """Classifier-free guidance of the fake score in the matching loss."""
    null_share: float = 0.0
    """Share of steps in which the fake score learns without conditions, so that it can be guided."""

    def rate_share(self, step: int) -> float:
        """Share of the full learning rates at a step: up over the warm-up, down over the cooldown."""
        up = (step + 1) / max(1, self.warmup_steps)
        down = (self.steps - step) / (self.cooldown * self.steps) if self.cooldown * self.steps > 0 else 1.0
        return min(1.0, up, down)
