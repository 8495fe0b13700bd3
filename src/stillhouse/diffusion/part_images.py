"""Evaluation images of a student that knows only some labels, kept until all students have theirs, and put together.

Judging such a student by its own labels against all real images would measure the labels that it does not have.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from stillhouse.core.files import write_atomically
from stillhouse.core.run import Run
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.evaluation import evaluation_noise, images_from
from stillhouse.diffusion.router import Parts
from stillhouse.diffusion.task import Setting


def draw_part(setting: Setting, network: Denoiser, sigmas: tuple[float, ...], labels: tuple[int, ...]) -> Tensor:
    """The part's share of the images that all arms are judged by, from the noise that they all get."""
    sampler = setting.student_sampler(network, sigmas)
    mine = torch.isin(setting.labels, torch.tensor(labels, device=setting.device))
    noise = evaluation_noise(sampler, len(setting.labels), setting.seed)[mine.cpu()]
    return images_from(noise, sampler, setting.conditions, setting.labels[mine])


def keep_images(part: Run, updates: int, images: Tensor) -> None:
    """Images of a curve's point, 8 bits a number, until all students have theirs."""
    pixels = ((images + 1) * 127.5).round().to(torch.uint8)
    write_atomically(images_file(part.folder, updates), safetensors_bytes({"images": pixels}))


def images_file(part: Path, updates: int) -> Path:
    """Where `keep_images` puts them."""
    return part / "images" / f"{updates:09d}.safetensors"


def assemble(setting: Setting, parts: Parts, pixels: list[Tensor]) -> Tensor:
    """Each part's images at the places of its labels."""
    labels = setting.labels.cpu()
    images = torch.empty(len(labels), *pixels[0].shape[1:])
    for part, found in zip(parts, pixels, strict=True):
        images[torch.isin(labels, torch.tensor(part))] = found.float() / 127.5 - 1
    return images
