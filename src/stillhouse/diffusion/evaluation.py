"""From a network to an arm of the evidence: draw images with shared noise, measure quality, time and size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stillhouse.core.cache import cached_folder
from stillhouse.core.files import read_json, write_json
from stillhouse.core.result import Metric
from stillhouse.core.seeding import generator
from stillhouse.diffusion.autoencoder import Autoencoder
from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.samplers import few_step, guided, guided_passes, heun, sampling_sigmas

Images = Float[Tensor, "batch channels height width"]

BATCH = 256
"""Images drawn at once in evaluations."""


@dataclass(frozen=True)
class Sampler:
    """A way to make images from noise: `sample(noise [batch, noises, channels, height, width], condition)`."""

    name: str
    sample: Callable[[Tensor, Tensor | None], Tensor]
    passes: int
    """Network passes an image."""
    noises: int
    """Standard normal images it takes per image."""
    shape: tuple[int, int, int]


def heun_sampler(
    denoiser: Denoiser, steps: int, guidance_scale: float = 1.0, autoencoder: Autoencoder | None = None
) -> Sampler:
    """EDM's deterministic sampler of a teacher: 2 steps - 1 passes, twice that when guided."""
    sigmas = sampling_sigmas(denoiser.preconditioning, steps)
    passes = (2 * steps - 1) * guided_passes(guidance_scale)

    def sample(noise: Tensor, condition: Tensor | None) -> Tensor:
        return _decoded(heun(guided(denoiser, condition, guidance_scale), noise[:, 0], sigmas), autoencoder)

    return Sampler(f"Heun, {steps} steps", sample, passes, 1, denoiser.sample_shape)


def student_sampler(denoiser: Denoiser, sigmas: tuple[float, ...], autoencoder: Autoencoder | None = None) -> Sampler:
    """A few-step student called at `sigmas`."""

    @torch.no_grad()
    def sample(noise: Tensor, condition: Tensor | None) -> Tensor:
        return _decoded(few_step(guided(denoiser, condition), list(noise.unbind(1)), sigmas), autoencoder)

    return Sampler(f"{len(sigmas)} step", sample, len(sigmas), len(sigmas), denoiser.sample_shape)


def _decoded(x: Images, autoencoder: Autoencoder | None) -> Images:
    return autoencoder.decode(x) if autoencoder else x


def draw_images(sampler: Sampler, conditions: Conditions, labels: Int[Tensor, " n"], seed: int) -> Images:
    """Images in [-1, 1] on the CPU, one for each label; all samplers see the same first noise for the same seed."""
    return images_from(evaluation_noise(sampler, len(labels), seed), sampler, conditions, labels)


def evaluation_noise(sampler: Sampler, count: int, seed: int) -> Float[Tensor, "n noises channels height width"]:
    """The noise of `count` images, for every pass that takes some."""
    first = torch.randn(count, 1, *sampler.shape, generator=generator(seed, "evaluation noise"))
    more = torch.randn(
        count, sampler.noises - 1, *sampler.shape, generator=generator(seed, "evaluation noise, later levels")
    )
    return torch.cat([first, more], dim=1)


def images_from(noise: Tensor, sampler: Sampler, conditions: Conditions, labels: Int[Tensor, " n"]) -> Images:
    """Images in [-1, 1] on the CPU of this noise, one for each label."""
    images = []
    for part, part_labels in zip(noise.split(BATCH), labels.split(BATCH), strict=True):
        device = part_labels.device
        images.append(sampler.sample(part.to(device), conditions.of(part_labels)).clamp(-1, 1).cpu())
    return torch.cat(images)


def balanced_labels(labels: Int[Tensor, " n"], count: int) -> Int[Tensor, " count"]:
    """`count` labels in the proportions of `labels`, in an order that is the same every time."""
    order = torch.randperm(len(labels), generator=generator("evaluation labels"))
    repeats = -(-count // len(labels))
    return labels[order.to(labels.device)].repeat(repeats)[:count]


def latency(sampler: Sampler, conditions: Conditions, batch: int, device: torch.device, repeats: int = 5) -> float:
    """Median wall-clock seconds an image at this batch size, after a warm-up."""
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    noise = torch.randn(batch, sampler.noises, *sampler.shape, device=device)
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        sampler.sample(noise, conditions.of(labels))
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) / batch


def latencies(sampler: Sampler, conditions: Conditions, device: torch.device) -> dict[str, float]:
    """Seconds an image at batch 1 and batch 64."""
    return {f"batch {batch}": latency(sampler, conditions, batch, device) for batch in (1, 64)}


def cached_metrics(key: Mapping[str, Any], compute: Callable[[], dict[str, float]]) -> dict[str, float]:
    """`compute()`, kept under its key: a teacher's metrics are the same in every run that shares it."""

    def make(folder: Path) -> None:
        write_json(folder / "metrics.json", compute())

    folder = cached_folder("metrics", (repr(sorted(key.items())),), make)
    metrics: dict[str, float] = read_json(folder / "metrics.json")
    return metrics


def image_metrics(floor: Mapping[str, float]) -> tuple[Metric, ...]:
    """How the image metrics are to be read, with what real training images score on this data."""
    texts: dict[str, tuple[str, Literal["lower", "higher"], str]] = {
        "fid": ("FID", "lower", "Distance of feature means and covariances to held-out real images."),
        "fid_above_floor": (
            "FID above floor",
            "lower",
            "FID less what as many real images would score for want of more references; about 0 is perfect.",
        ),
        "kid": ("KID", "lower", "Kernel distance to held-out real images; unbiased, about 0 is perfect."),
        "precision": ("Precision", "higher", "Share of images that lie among the real ones."),
        "recall": ("Recall", "higher", "Share of real images that lie among the generated ones."),
        "class_accuracy": ("Class accuracy", "higher", "Share of images that a classifier sees as asked for."),
        "attribute_accuracy": (
            "Attribute accuracy",
            "higher",
            "Share of the caption's attributes that a classifier sees in the image.",
        ),
        "held_out_accuracy": (
            "Held-out prompts",
            "higher",
            "Attribute accuracy on the combinations that the built-in prompts leave out.",
        ),
        "memorisation": (
            "Memorisation",
            "lower",
            "Share of images nearer to a training image than 95 % of held-out real ones are; .05 is no copying, 1 all.",
        ),
    }
    floors = {**floor, "memorisation": 0.05}
    return tuple(
        Metric(key, title, better, help, floor=floors[key])
        for key, (title, better, help) in texts.items()
        if key in floors
    )
