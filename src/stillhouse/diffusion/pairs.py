"""Pairs of noise and the teacher's image of it, made once and kept: the regression set of distribution matching.

    L_reg = E_(z, y, c) mean || G(z, c) - y ||^2,  y the teacher's deterministic sample from noise z under condition c

One-step Diffusion with Distribution Matching Distillation (arXiv 2311.18828, eq. 9); Multi-Student Distillation (arXiv
2410.23274, section 3.2) shares one set among all students, unfiltered. Both compare with LPIPS, whose weights are a download;
here images are compared pixel by pixel (latent by latent for a teacher of latents).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stillhouse.core.cache import cached_folder
from stillhouse.core.errors import UserError
from stillhouse.core.files import content_hash, read_json, write_json
from stillhouse.core.seeding import generator
from stillhouse.diffusion.conditions import Conditions, ConditionSource
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.evaluation import BATCH
from stillhouse.diffusion.samplers import guided, guided_passes, heun, sampling_sigmas

Images = Float[Tensor, "n channels height width"]
FILE = "pairs.safetensors"


@dataclass(frozen=True)
class Pairs:
    """The teacher's images and the standard normal noise that each came from.

    Attributes:
        passes, seconds: what making them took.
    """

    noise: Images
    images: Images
    labels: Int[Tensor, " n"]
    passes: int
    seconds: float


@dataclass(frozen=True)
class Regression:
    """L_reg on a set of pairs, times a weight."""

    pairs: Pairs
    weight: float

    def draw(self, batch: int) -> Int[Tensor, " batch"]:
        """Which pairs a step uses; from the global generator."""
        return torch.randint(len(self.pairs.labels), (batch,)).to(self.pairs.labels.device)

    def loss(
        self, student: Denoiser, sigma: float, conditions: ConditionSource, index: Int[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """mean || G(z, c) - y ||^2 over the chosen pairs, for a student that is called at `sigma`."""
        noise, labels = self.pairs.noise[index], self.pairs.labels[index]
        level = torch.full((len(noise),), sigma, device=noise.device)
        return (student(sigma * noise, level, conditions.of(labels)) - self.pairs.images[index]).square().mean()


def teacher_pairs(
    teacher: Denoiser,
    conditions: Conditions,
    labels: Int[Tensor, " train"],
    count: int,
    steps: int,
    guidance_scale: float,
    weights: str,
) -> Pairs:
    """`count` pairs of the teacher's Heun sampler, from the cache if they were made before.

    Args:
        labels: of the training images; pairs have them in the same proportions, all of them.
        steps: Heun's.
        weights: digest of the teacher's weights.

    Raises:
        UserError: the cached file is damaged.
    """
    texts = None if conditions.table is None else content_hash([conditions.table.cpu().numpy().tobytes()])
    key = (
        weights,
        repr(teacher.preconditioning),
        repr(sorted(teacher.config.items())),
        str(texts),
        str(guidance_scale),
        str(teacher.autocast_dtype),
        content_hash([labels.cpu().numpy().tobytes()]),
        f"{count} {steps}",
        torch.__version__,
    )
    folder = cached_folder(
        "pairs", key, lambda place: _make(place, teacher, conditions, labels, count, steps, guidance_scale)
    )
    device = labels.device
    try:
        found = {name: tensor.to(device) for name, tensor in load_file(folder / FILE).items()}
        return Pairs(found["noise"], found["images"], found["labels"], **read_json(folder / "made.json"))
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise UserError(f"the teacher's pairs in {folder} are damaged ({error})", "remove that folder") from error


def _make(
    place: Path,
    teacher: Denoiser,
    conditions: Conditions,
    labels: Tensor,
    count: int,
    steps: int,
    guidance_scale: float,
) -> None:
    started = time.monotonic()
    random = generator("regression pairs")
    chosen = labels[torch.randint(len(labels), (count,), generator=random).to(labels.device)]
    noise = torch.randn(count, *teacher.sample_shape, generator=random).to(labels.device)
    sigmas = sampling_sigmas(teacher.preconditioning, steps)
    images = [
        heun(guided(teacher, conditions.of(part_labels), guidance_scale), part, sigmas)
        for part, part_labels in zip(noise.split(BATCH), chosen.split(BATCH), strict=True)
    ]
    tensors = {"noise": noise, "images": torch.cat(images), "labels": chosen}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, place / FILE)
    passes = count * (2 * steps - 1) * guided_passes(guidance_scale)
    write_json(place / "made.json", {"passes": passes, "seconds": time.monotonic() - started})
