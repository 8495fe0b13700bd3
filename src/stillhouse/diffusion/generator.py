"""A distilled student as a user holds it: conditions in, images out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tyro.conf import Positional

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import read_json
from stillhouse.diffusion.autoencoder import Autoencoder, load_autoencoder
from stillhouse.diffusion.conditions import Conditions, TextEncoder, load_text_encoder, require_known_words, spread
from stillhouse.diffusion.denoiser import SETTINGS_FILE, Denoiser, load_denoiser
from stillhouse.diffusion.evaluation import draw_images, student_sampler
from stillhouse.vision.images import save_grid


class Generator:
    """A few-step generator; `generator(["seven", "three"])` gives an image for each.

    Args:
        denoiser: the student network.
        sigmas: noise levels at which it is called.
        names: class names, or the captions it was trained on.
        text_encoder: for a text-conditional student, which takes any caption.
        autoencoder: for a student of latents.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sigmas: Sequence[float],
        names: Sequence[str],
        text_encoder: TextEncoder | None,
        autoencoder: Autoencoder | None,
    ) -> None:
        self.denoiser, self.sigmas, self.names = denoiser, tuple(sigmas), tuple(names)
        self.text_encoder, self.autoencoder = text_encoder, autoencoder

    def __call__(self, conditions: Sequence[int | str], seed: int = 0) -> Float[Tensor, "batch channels height width"]:
        """Images in [-1, 1], one for each condition (class index, class name, or caption).

        Raises:
            UserError: a class is unknown, or a word of a caption.
        """
        rows = list(dict.fromkeys(conditions))
        labels = torch.tensor([rows.index(condition) for condition in conditions])
        sampler = student_sampler(self.denoiser, self.sigmas, self.autoencoder)
        return draw_images(sampler, self.conditions_of(rows), labels, seed)

    def conditions_of(self, rows: Sequence[int | str]) -> Conditions:
        """The conditions of rows, each a class or its name, or a caption.

        Raises:
            UserError: a class or a word that the student does not know.
        """
        texts = tuple(map(str, rows))
        if self.text_encoder:
            require_known_words(texts, self.text_encoder)
            return Conditions(texts, self.text_encoder.embed(texts))
        if self.denoiser.config.num_class_embeds is None:
            return Conditions(texts, None)
        return Conditions(texts, torch.tensor([self._class_index(row) for row in rows]))

    def _class_index(self, row: int | str) -> int:
        index = row if isinstance(row, int) else int(row) if row.isdigit() else -1
        if isinstance(row, str) and row in self.names:
            return self.names.index(row)
        if not 0 <= index < len(self.names):
            raise UserError(f"the student knows no class {row!r}", f"choose from: {', '.join(self.names)}")
        return index


def load_generator(folder: Path) -> Generator:
    """The generator that a run saved.

    Raises:
        UserError: the folder is missing, damaged, or holds no few-step student.
    """
    denoiser = load_denoiser(folder)
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    settings = read_json(unet_folder / SETTINGS_FILE)
    if "sigmas" not in settings:
        raise UserError(f"{folder} holds a teacher, not a few-step student", "give the model folder of a finished run")
    text_encoder = load_text_encoder(folder) if denoiser.takes_text else None
    names, autoencoder = settings.get("class_names", ()), load_autoencoder(folder)
    return Generator(denoiser.requires_grad_(False), settings["sigmas"], names, text_encoder, autoencoder)


MOST_ROWS = 20
"""Rows of a picture where no condition is named."""


def sample_command(load: Callable[[Path], Generator]) -> Callable[..., None]:
    """The command "sample" of a method whose finished model folders `load` opens."""

    def sample(
        run: Positional[Path],
        conditions: tuple[str, ...] = (),
        count: int = 10,
        out: Path = Path("samples.png"),
        seed: int = 0,
    ) -> None:
        """Draw images with a finished run's student into a PNG.

        Args:
            run: the run folder.
            conditions: class names, class numbers or captions, one row each; by default those it was trained on (at most 20).
            count: images of each.
            out: the picture.
            seed: of the noise.
        """
        require((run / "model").is_dir(), f"{run} has no model", "name the folder of a finished run")
        require(count > 0, f"{count} images of each condition", "use --count 1 or more")
        generator = load(run / "model")
        rows = conditions or spread(generator.names, MOST_ROWS)
        started = time.perf_counter()
        images = generator([row for row in rows for _ in range(count)], seed)
        print(f"{len(images)} images in {time.perf_counter() - started:.2f} s: {out}")
        save_grid(images, count, out)

    return sample
