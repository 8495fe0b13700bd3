"""Digits with attributes, and captions that name them: a small text-to-image task that installed packages carry.

Each of scikit-learn's 1,797 digits is made upright and then drawn in four of eight styles: thin or thick, upright or slanted,
plain or inverted. A caption names all four attributes: "a thin slanted photo of the digit seven, inverted". The versions of a digit are
one group, which a split keeps together. Ten of the eighty combinations are held out of the built-in prompts (not out of
the teacher's images), to be asked for later.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from scipy import ndimage

from stillhouse.vision.image_files import Attributes, RawImages
from stillhouse.vision.public_images import DIGIT_NAMES, digits

THICKNESS, SLANT, INVERSION = ("thin", "thick"), ("upright", "slanted"), ("", "inverted")
STYLES = tuple(product(range(2), repeat=3))
"""(thickness, slant, inversion), as indices."""
SHEAR = 0.55
"""Columns that a slanted digit moves to the right per row upwards."""
CROSS = ndimage.generate_binary_structure(2, 1)
ENLARGED = 4
"""Strokes are made thinner and thicker on images so many times larger: at 8 x 8 a stroke is two pixels wide."""


@cache
def captioned_digits() -> RawImages:
    """Digits in styles; a class is a combination of the four attributes, its name the caption."""
    plain = digits()
    enlarged = np.stack([_enlarged_upright(page) for page in (plain.images[:, 0] + 1) / 2])
    number = np.arange(len(enlarged))
    chosen = [number[(number // len(DIGIT_NAMES) + style) % 2 == 0] for style in range(len(STYLES))]
    drawn = np.concatenate([_in_style(enlarged[some], *STYLES[style]) for style, some in enumerate(chosen)])
    labels = np.concatenate([plain.labels[some] + len(DIGIT_NAMES) * style for style, some in enumerate(chosen)])
    images = (drawn * 2 - 1).astype(np.float32)[:, None]
    return RawImages(images, labels, CAPTIONS, ATTRIBUTES, np.concatenate(chosen))


def caption(digit: int, thickness: int, slant: int, inversion: int) -> str:
    """The sentence that names a combination."""
    style = f"{THICKNESS[thickness]} {SLANT[slant]}"
    return f"a {style} photo of the digit {DIGIT_NAMES[digit]}" + (", inverted" if inversion else "")


def _held_out(digit: int, thickness: int, slant: int, inversion: int) -> bool:
    """One style of every digit: each digit and each style is seen in others."""
    return STYLES.index((thickness, slant, inversion)) == (3 * digit + 1) % len(STYLES)


def _enlarged_upright(page: np.ndarray) -> np.ndarray:
    """The digit, larger, sheared so that its ink's columns do not depend on the row (moments of order two)."""
    large = ndimage.zoom(page, ENLARGED, order=1, grid_mode=True, mode="nearest")
    rows, columns = np.indices(large.shape) - (large.shape[0] - 1) / 2
    ink = large / large.sum()
    row, column = (ink * rows).sum(), (ink * columns).sum()
    lean = (ink * (rows - row) * (columns - column)).sum() / (ink * (rows - row) ** 2).sum()
    return _sheared(large, lean, row, column)


def _sheared(page: np.ndarray, shear: float, row: float = 0.0, column: float = 0.0) -> np.ndarray:
    """The page with pixel (r, c) taken from (r + row, c + column + shear r), from the middle."""
    middle = (page.shape[0] - 1) / 2
    matrix = np.array([[1.0, 0.0], [shear, 1.0]])
    offset = np.array([middle + row, middle + column]) - matrix @ np.array([middle, middle])
    return ndimage.affine_transform(page, matrix, offset, order=1)


def _in_style(pages: np.ndarray, thickness: int, slant: int, inversion: int) -> np.ndarray:
    """Pages [n, height, width] in [0, 1], ink is 1, in one style and at their own size again."""
    strokes = np.stack([_stroke(page, thickness) for page in pages])
    leaning = np.stack([_sheared(page, SHEAR) for page in strokes]) if slant else strokes
    count, height, width = leaning.shape
    small = leaning.reshape(count, height // ENLARGED, ENLARGED, width // ENLARGED, ENLARGED).mean((2, 4)).clip(0, 1)
    return 1 - small if inversion else small


def _stroke(page: np.ndarray, thickness: int) -> np.ndarray:
    """Strokes an enlarged pixel thinner or thicker on each side, the thin ones as dark as before."""
    if thickness:
        return ndimage.grey_dilation(page, footprint=CROSS)
    thinner = ndimage.grey_erosion(page, footprint=CROSS)
    return thinner * (page.max() / max(thinner.max(), 1e-6))


COMBINATIONS = tuple((digit, *style) for style in STYLES for digit in range(len(DIGIT_NAMES)))
CAPTIONS = tuple(caption(*combination) for combination in COMBINATIONS)
ATTRIBUTES = Attributes(
    names=("digit", "thickness", "slant", "inversion"),
    table=COMBINATIONS,
    held_out=tuple(label for label, combination in enumerate(COMBINATIONS) if _held_out(*combination)),
)
