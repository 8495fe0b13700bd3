"""What an image task will cost, from the network it will use and two timed passes."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from stillhouse.diffusion.conditions import new_text_encoder
from stillhouse.diffusion.denoiser import Denoiser, load_denoiser
from stillhouse.diffusion.images import captions, load_images, split
from stillhouse.diffusion.preconditioning import Edm
from stillhouse.diffusion.task import ImageTask, teacher_plan
from stillhouse.diffusion.teacher import new_unet, teacher_folder

REPEATS = 5


def plan_network(task: ImageTask) -> tuple[Denoiser, bool]:
    """A network like the task's teacher, and whether the teacher need not be trained."""
    if task.teacher != "train":
        return load_denoiser(Path(task.teacher), task.prediction), True
    splits = split(load_images(task.data, size=task.size), seed=0)
    plan, data = teacher_plan(task, splits), splits.train
    width = new_text_encoder(captions(data)).model.config.hidden_size if plan.text else None
    unet = new_unet(plan.widths, data.channels, data.size, data.classes, width)
    return Denoiser(unet, Edm()), teacher_folder(plan, data).is_dir()


def pass_seconds(denoiser: Denoiser, batch: int) -> tuple[float, float]:
    """Seconds of a forward pass and of a backward pass, an image, measured at this batch size."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    denoiser = denoiser.to(device).train()
    x, sigma = torch.randn(batch, *denoiser.sample_shape, device=device), torch.ones(batch, device=device)
    condition = _some_condition(denoiser, batch, device)
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        denoised = denoiser(x, sigma, condition)
        middle = time.perf_counter()
        denoised.square().mean().backward()
        times.append((middle - started, time.perf_counter() - middle))
    # the fastest of each: anything slower is the machine's other work
    forward, backward = (min(column) for column in zip(*times, strict=True))
    return forward / batch, backward / batch


def _some_condition(denoiser: Denoiser, batch: int, device: torch.device) -> torch.Tensor | None:
    if denoiser.takes_text:
        return torch.zeros(batch, 8, denoiser.config.cross_attention_dim, device=device)
    if denoiser.config.num_class_embeds is None:
        return None
    return torch.zeros(batch, dtype=torch.long, device=device)
