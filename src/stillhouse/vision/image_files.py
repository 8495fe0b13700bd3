"""A user's own images: a folder of image files, or an .npz file."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from PIL import Image, ImageOps

from stillhouse.core.errors import UserError, require

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int64

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp"})
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"})
MOST_NPZ_BYTES = 8 << 30
"""Arrays of an .npz file are read whole; a small file may unpack to any size."""
UNREADABLE_NPZ = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    KeyError,
    TypeError,
    MemoryError,
    RuntimeError,
    zlib.error,
    zipfile.BadZipFile,
)
"""What numpy and zipfile raise at damaged, encrypted (Runtime), oddly compressed and made-up archives."""
WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L"})
"""16-bit grey: Pillow clips these at 255 unless scaled first."""


@dataclass(frozen=True)
class Attributes:
    """Classes that are combinations of attributes (a digit, its slant, ...)."""

    names: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]
    """Value of every attribute, a row a class."""
    held_out: tuple[int, ...] = ()
    """Classes that are left out where prompts are learned from, to be asked for later."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each attribute has."""
        return tuple(1 + max(values) for values in zip(*self.table, strict=True))


@dataclass(frozen=True, eq=False)
class RawImages:
    """Images as they were found, in [-1, 1]."""

    images: Float32[np.ndarray, "n channels height width"]
    labels: Int64[np.ndarray, " n"]
    class_names: tuple[str, ...]
    attributes: Attributes | None = None
    """What the classes are combinations of."""
    groups: Int64[np.ndarray, " n"] | None = None
    """Images of one number are versions of one and stay in one split."""
    test: Bool[np.ndarray, " n"] | None = None
    """Which images their publishers keep apart for testing."""


def read_folder(folder: Path, size_for: Callable[[int], int], channels: int | None) -> RawImages:
    """Images below `folder`, cropped to their central square and resized.

    Args:
        folder: its subfolders are the classes; without any, it is one class.
        size_for: side to resize to, given the smallest side of all images.
        channels: 1, 3, or None to keep what all images have.

    Raises:
        UserError: there are none, a class is empty, a file cannot be decoded, or grey and colour are mixed.
    """
    by_class = _files_by_class(folder)
    files = [file for members in by_class.values() for file in members]
    looks = [look_at(file) for file in files]
    size = size_for(min(side for side, _ in looks))
    grey = [is_grey for _, is_grey in looks]
    if channels is None and any(grey) and not all(grey):
        one_grey, one_colour = files[grey.index(True)], files[grey.index(False)]
        raise UserError(
            f"{folder} mixes grey images ({one_grey.name}) and colour images ({one_colour.name})",
            "choose 1 or 3 channels for all of them",
        )
    chosen = channels or (1 if all(grey) else 3)
    images = np.stack([decode(file, size, chosen) for file in files])
    labels = np.repeat(np.arange(len(by_class)), [len(members) for members in by_class.values()])
    return RawImages(images, labels.astype(np.int64), tuple(by_class))


def read_npz(path: Path) -> RawImages:
    """Images and labels of an .npz file; see `load_images` for its layout.

    Raises:
        UserError: the file is damaged, an array is missing or of a wrong shape, or pixels are out of range.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            unpacked = sum(member.file_size for member in file.zip.infolist())
            require(unpacked <= MOST_NPZ_BYTES, f"{path} unpacks to {unpacked:,} bytes", "give a folder of images")
            arrays = {name: np.lib.format.read_array(file.zip.open(f"{name}.npy")) for name in file.files}
    except UNREADABLE_NPZ as error:
        raise UserError(f"{path} cannot be read ({error})", "save it with numpy.savez, without objects") from error
    require("images" in arrays, f"{path} has no array 'images'", f"rename one of {sorted(arrays)}")
    images = _unit_range(_channels_first(arrays["images"], path), path)
    names, labels = np.unique(arrays.get("labels", np.zeros(len(images), np.int64)), return_inverse=True)
    require(
        arrays.get("labels", labels).shape == (len(images),),
        f"{path} has labels of shape {arrays.get('labels', labels).shape} for {len(images)} images",
        "give one label an image",
    )
    return RawImages(images, labels.astype(np.int64), tuple(map(str, names)) if "labels" in arrays else ("image",))


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    flat = [entry for entry in entries if entry.suffix.lower() in ENDINGS and entry.is_file()]
    classes = {entry.name: _images_below(entry) for entry in entries if entry.is_dir()}
    found = bool(flat) or any(classes.values())
    require(found, f"no images in {folder}", "put PNG, JPEG or WebP files there, or in a subfolder for each class")
    if flat and any(classes.values()):
        raise UserError(f"{folder} holds images ({flat[0].name}) beside class folders", "move them into a class folder")
    if flat:
        return {folder.resolve().name: flat}
    for name, members in classes.items():
        require(bool(members), f"class folder {folder / name} has no images", "fill it or remove it")
    return classes


def _images_below(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and not file.name.startswith("."))
    return sorted(file for file in found if file.is_file())


def look_at(file: Path) -> tuple[int, bool]:
    """Smallest side of an image and whether it is grey, without decoding it."""
    with _opened(file) as image:
        return min(image.size), image.mode in GREY_MODES


def decode(file: Path, size: int, channels: int) -> Float32[np.ndarray, "channels size size"]:
    """An image in [-1, 1], turned as its camera says, on white where it is transparent."""
    with _opened(file) as image:
        try:
            upright = ImageOps.exif_transpose(image)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            _not_an_image(file, error)
        if upright.mode in WIDE_MODES:
            upright = Image.fromarray((np.asarray(upright).clip(0, 65535) / 257).astype(np.uint8))
        if upright.has_transparency_data:
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
        square = ImageOps.fit(upright.convert("L" if channels == 1 else "RGB"), (size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(square, np.float32).reshape(size, size, channels).transpose(2, 0, 1)
    return pixels / np.float32(127.5) - 1


def _opened(file: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(file)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise UserError(f"{file} has more than {limit:,} pixels", "remove it or make it smaller") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        _not_an_image(file, error)


def _not_an_image(file: Path, error: Exception) -> NoReturn:
    raise UserError(f"{file} cannot be decoded as an image ({error})", "replace or remove it") from error


def _channels_first(images: np.ndarray, path: Path) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    require(
        images.ndim == 4 and images.shape[1] in (1, 3),
        f"the images in {path} have shape {images.shape}",
        "give n h w, n h w c or n c h w, with 1 or 3 channels",
    )
    return images


def _unit_range(images: np.ndarray, path: Path) -> Float32[np.ndarray, "n channels height width"]:
    """uint8 or floats to [-1, 1]; floats are taken as [0, 1] unless one of them is negative."""
    require(images.size > 0, f"{path} holds no images", "give at least a few of each class")
    if images.dtype == np.uint8:
        return (images / np.float32(127.5) - 1).astype(np.float32)
    require(images.dtype.kind == "f", f"the images in {path} are {images.dtype}", "save them as uint8 or float32")
    bad = np.flatnonzero(~np.isfinite(images).all((1, 2, 3))).tolist()
    if bad:
        raise UserError(f"image {bad[0]} of {path} has pixels that are not finite", "remove or mend it")
    low, high = float(images.min()), float(images.max())
    require(
        low >= -1 and high <= 1,
        f"the float images in {path} range from {low:.3g} to {high:.3g}",
        "scale them to [0, 1] or [-1, 1]",
    )
    return np.ascontiguousarray(images if low < 0 else images * 2 - 1, np.float32)
