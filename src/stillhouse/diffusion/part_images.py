"""Evaluation images of a student that knows only some labels, kept until all students have theirs, and put together.

Judging such a student by its own labels against all real images would measure the labels that it does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import write_atomically
from stillhouse.core.result import Curve
from stillhouse.core.run import Run
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.evaluation import evaluation_noise, images_from
from stillhouse.diffusion.router import Parts
from stillhouse.diffusion.task import AXES, CURVE_METRICS, Setting


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


def read_images(part: Path, updates: int) -> Tensor:
    """What `keep_images` kept.

    Raises:
        UserError: it is missing or damaged.
    """
    file = images_file(part, updates)
    try:
        return tensors_of(file.read_bytes())["images"]
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"the images in {file} cannot be read ({error})", mend_of(part)) from error


def mend_of(part: Path) -> str:
    """What to do about a student whose own run is damaged."""
    return f"remove {part} and resume: that student is trained again"


def assembled_curves(
    folders: Sequence[Path], setting: Setting, parts: Parts, arm: str, passes_before: int
) -> tuple[Curve, ...]:
    """Metrics of the students' images put together, at the updates that all of them have reached.

    Args:
        folders, parts: each student's own run, and its labels.
        passes_before: what all of them share the cost of.

    Raises:
        UserError: a student's images or records are damaged.
    """
    points = []
    for updates in sorted({int(file.stem) for f in folders for file in (f / "images").glob("*.safetensors")}):
        images = assemble(setting, parts, [read_images(folder, updates) for folder in folders])
        passes = passes_before + sum(passes_at(folder, updates) for folder in folders)
        position = {"student_updates": updates, "network_passes": passes}
        points.append({**position, **setting.evaluator(images, setting.labels.cpu())})
    return tuple(
        Curve(arm, metric, tuple({**{axis: p[axis] for axis in AXES}, "value": p[metric]} for p in points))
        for metric in CURVE_METRICS
    )


def passes_at(part: Path, updates: int) -> int:
    """Passes that a student had taken at a point of its curve.

    Raises:
        UserError: the student has no record of that point.
    """
    with Run.open(part, quiet=True) as opened:
        records = opened.records(student_updates=updates)
    require(bool(records), f"{part} has no record of its update {updates}", mend_of(part))
    return int(records[0]["network_passes"])


def assemble(setting: Setting, parts: Parts, pixels: list[Tensor]) -> Tensor:
    """Each part's images at the places of its labels."""
    labels = setting.labels.cpu()
    images = torch.empty(len(labels), *pixels[0].shape[1:])
    for part, found in zip(parts, pixels, strict=True):
        images[torch.isin(labels, torch.tensor(part))] = found.float() / 127.5 - 1
    return images
