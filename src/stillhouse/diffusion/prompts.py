"""Prompts: what image-free distillation is given instead of images."""

from __future__ import annotations

from pathlib import Path

import torch

from stillhouse.core.cache import cached_folder
from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import content_hash, write_atomically
from stillhouse.core.seeding import derive_seed
from stillhouse.diffusion.conditions import spread
from stillhouse.diffusion.evaluation import draw_images, heun_sampler
from stillhouse.diffusion.task import JudgedTask, weights_hash
from stillhouse.diffusion.teacher import Teacher
from stillhouse.vision.captioned_digits import ATTRIBUTES, CAPTIONS
from stillhouse.vision.images import ImageData, Splits, split

BUILT_IN = "captioned-digits"
JUDGED_PROMPTS = 20
"""Students are judged on so many of a file's prompts: a classifier learns to tell them, and each needs images."""
MOST_BYTES = 2_000_000_000


def read_prompts(prompts: str) -> tuple[str, ...]:
    """Prompts of a text file, one a line, or the built-in ones.

    Args:
        prompts: a file, or "captioned-digits": the captions of all digits and styles but the held-out combinations.

    Raises:
        UserError: no such file, it is not text, or it holds no prompt.
    """
    if prompts == BUILT_IN:
        return tuple(text for label, text in enumerate(CAPTIONS) if label not in ATTRIBUTES.held_out)
    path = Path(prompts).expanduser()
    require(path.is_file(), f"no prompt file {prompts}", f"give a text file with a prompt a line, or {BUILT_IN}")
    require(path.stat().st_size <= MOST_BYTES, f"{prompts} has more than {MOST_BYTES / 1e9:g} GB", "give fewer prompts")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{prompts} cannot be read as text ({first_line(error)})", "save it as UTF-8") from error
    require("\0" not in text, f"{prompts} is not a text file", "give a text file with a prompt a line")
    found = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    require(bool(found), f"{prompts} holds no prompt", "write one a line")
    return found


def judged_prompts(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The prompts that students are judged on: all, or `JUDGED_PROMPTS` from everywhere in the file."""
    return spread(texts, JUDGED_PROMPTS)


def teacher_images(teacher: Teacher, task: JudgedTask) -> Splits:
    """The teacher's own many-step images of its prompts, kept in the cache: the reference where no image is given."""
    names = teacher.conditions.names
    labels = torch.arange(len(names)).repeat(-(-task.samples // len(names)))[: max(task.samples, len(names))]
    sampler = heun_sampler(teacher.denoiser, task.teacher_steps, task.guidance_scale, teacher.autoencoder)

    def make(folder: Path) -> None:
        device = next(teacher.denoiser.parameters()).device
        images = draw_images(sampler, teacher.conditions, labels.to(device), derive_seed("the teacher's own images"))
        pixels = ((images + 1) * 127.5).round().to(torch.uint8)
        write_atomically(folder / "pixels", pixels.numpy().tobytes())

    table, null = teacher.conditions.table, teacher.denoiser.null_condition
    assert table is not None and null is not None
    key: tuple[bytes | str, ...] = (
        *names,
        weights_hash(teacher.denoiser),
        repr((teacher.denoiser.preconditioning, teacher.denoiser.autocast_dtype)),
        repr((sampler.name, task.guidance_scale, len(labels), torch.__version__)),
        *(content_hash([part.cpu().numpy().tobytes()]) for part in (table, null)),
        teacher.autoencoder.weights() if teacher.autoencoder else b"",
    )
    stored = (cached_folder("teacher-images", key, make) / "pixels").read_bytes()
    pixels = torch.frombuffer(bytearray(stored), dtype=torch.uint8).view(len(labels), *image_shape(teacher))
    return split(ImageData("the teacher's own images", pixels.float() / 127.5 - 1, labels, names), seed=0)


def image_shape(teacher: Teacher) -> tuple[int, int, int]:
    """Channels, height and width of the teacher's images, decoded where it works on latents."""
    channels, height, width = teacher.denoiser.sample_shape
    if teacher.autoencoder is None:
        return channels, height, width
    shrink = teacher.autoencoder.shrink
    return teacher.autoencoder.model.config.out_channels, height * shrink, width * shrink
