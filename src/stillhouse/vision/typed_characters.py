"""Characters in the typefaces that matplotlib carries (DejaVu, STIX, Computer Modern), moved and turned like scans."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from stillhouse.core.seeding import derive_seed
from stillhouse.vision.image_files import RawImages

ALPHABETS = {
    "typed-digits": "0123456789",
    "typed-capitals": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "typed-small": "abcdefghijklmnopqrstuvwxyz",
    "typed-greek": "αβγδεζηθικλμνξπρστυφχψω",
    "typed-cyrillic": "бгджзийлпфцчшщыэюя",
}
TYPEFACES = (
    *(f"DejaVuSans{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}.ttf" for style in ("", "-Bold", "-Oblique")),
    *(f"DejaVuSerif{style}.ttf" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")),
)
SIZE, DRAWN, LETTER_HEIGHT = 28, 56, 38
"""Sides of the images as they are given and drawn, and of a letter in the latter, in pixels."""
VERSIONS = 4
"""Images of a character in a typeface."""
TURN, SHEAR, STRETCH, SHIFT = 0.15, 0.2, 0.15, 3.0
"""Deviations: radians, columns a row, logarithm of the scale, pixels."""


@cache
def typed_characters(name: str) -> RawImages:
    """One of `ALPHABETS` as light strokes on dark, a class a character; versions of one are a group."""
    rng = np.random.default_rng(derive_seed("typed characters", name))
    characters = ALPHABETS[name]
    images, labels, groups = [], [], []
    for label, character in enumerate(characters):
        for face, typeface in enumerate(TYPEFACES):
            page = _drawn(character, typeface)
            for _ in range(VERSIONS):
                images.append(_moved(page, rng))
                labels.append(label)
                groups.append(label * len(TYPEFACES) + face)
    pixels = np.stack(images)[:, None].astype(np.float32)
    return RawImages(pixels * 2 - 1, np.array(labels), tuple(characters), groups=np.array(groups))


TYPED: dict[str, Callable[[], RawImages]] = {name: partial(typed_characters, name) for name in ALPHABETS}


@cache
def _font(typeface: str) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / typeface, LETTER_HEIGHT)


def _drawn(character: str, typeface: str) -> np.ndarray:
    page = Image.new("L", (DRAWN, DRAWN))
    ImageDraw.Draw(page).text((DRAWN / 2, DRAWN / 2), character, fill=255, font=_font(typeface), anchor="mm")
    return np.asarray(page, np.float32) / 255


def _moved(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The page under a random affine map, at half its size."""
    turn, shear = rng.normal(0, TURN), rng.normal(0, SHEAR)
    scales = np.exp(rng.normal(0, STRETCH, 2))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.array([[1, 0], [shear, 1]]) @ np.diag(scales)
    middle = np.full(2, (DRAWN - 1) / 2)
    offset = middle - matrix @ (middle + rng.normal(0, SHIFT, 2))
    large = ndimage.affine_transform(page, matrix, offset, order=1)
    return large.reshape(SIZE, 2, SIZE, 2).mean((1, 3)).clip(0, 1)
