"""A task with few labels: a labelled set of which most labels are hidden, or a folder of images with a label file for a few."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stillhouse.core.errors import UserError, require
from stillhouse.core.seeding import derive_seed
from stillhouse.vision.classes import balanced, class_splits
from stillhouse.vision.image_files import ENDINGS, decode, look_at
from stillhouse.vision.images import ImageData, default_size, load_images

if TYPE_CHECKING:
    from jaxtyping import Int

HIDDEN = -1
"""The label of an unlabelled image."""
REPORT_SHARE = 0.3
"""Of the labelled images, where there is no test set of their own."""


@dataclass(frozen=True, eq=False)
class FewLabels:
    """What a small classifier is to be learned from, and judged by."""

    pool: ImageData
    """Labelled images first, then the others with label -1."""
    labelled: int
    """How many of the pool have a label."""
    report: ImageData
    select: ImageData | None = None
    """Labelled images that nothing is learned from and choices may be made on; none where labels are really few."""
    truth: Int[Tensor, " n"] | None = None
    """All labels of the pool where they are known: to say how good pseudo-labels are, and for nothing else."""
    skipped: tuple[str, ...] = ()
    """Files that were left out, and why."""

    @property
    def shown(self) -> ImageData:
        """The labelled images."""
        return self.pool.take(torch.arange(self.labelled))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return tuple(self.pool.images.shape[1:])  # type: ignore[return-value]


def hide_labels(data: ImageData, a_class: int, seed: int, most: int = 0) -> FewLabels:
    """A labelled set of whose training images `a_class` of every class keep their labels.

    Args:
        a_class: labels a class.
        seed: of the choice; the split is the same for all seeds.
        most: at most this many training images; 0 takes all.

    Raises:
        UserError: a class has fewer images.
    """
    require(a_class >= 1, f"{a_class} labels a class", "give one or more")
    splits = class_splits(data, most=most)
    train = splits.train
    counts = torch.bincount(train.labels, minlength=train.classes)
    fewest = int(counts.argmin())
    require(
        int(counts[fewest]) >= a_class,
        f"class {train.class_names[fewest]!r} has {int(counts[fewest])} training images, {a_class} labels are asked for",
        "ask for fewer labels",
    )
    shown = class_choice(train.labels, a_class, derive_seed("labels", seed, a_class))
    others = torch.from_numpy(np.setdiff1d(np.arange(len(train)), shown.numpy()))
    order = torch.cat([shown, others])
    pool = train.take(order)
    labels = pool.labels.clone()
    labels[len(shown) :] = HIDDEN
    return FewLabels(replace(pool, labels=labels), len(shown), splits.report, splits.select, pool.labels)


def class_choice(labels: Int[Tensor, " n"], a_class: int, seed: int) -> Int[Tensor, " m"]:
    """Rows of `a_class` images of every class, by chance."""
    rng = np.random.default_rng(seed)
    values = labels.numpy()
    chosen = [rng.permutation(np.flatnonzero(values == label))[:a_class] for label in np.unique(values)]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def read_few_labels(
    folder: Path, labels: Path, test: str, seed: int, size: int | None, channels: int | None, unlabelled: str = ""
) -> FewLabels:
    """A folder of images, a few of which a CSV file with the columns file and label names.

    Pictures that cannot be decoded and copies of others are left out, named and counted.

    Args:
        folder: images, at any depth.
        labels: the CSV file; `file` is relative to the folder.
        test: labelled images to report on, as `load_images` takes them; empty holds 30 % of the labelled ones back.
        seed: of what is held back.
        size, channels: as `load_images` has them.
        unlabelled: a folder of further images without labels; may be empty.

    Raises:
        UserError: a labelled file is missing, copies have different labels, a class of the test set has no label, or there
            are fewer than two classes.
    """
    named = _read_label_file(labels, folder)
    files = [*_pictures_below(folder), *(_pictures_below(Path(unlabelled)) if unlabelled else ())]
    missing = [name for name in named if not (folder / name).is_file()]
    require(not missing, f"{labels.name} names {(missing or ['-'])[0]}, which is not in {folder}", "mend its path")
    of_file = {folder / name: label for name, label in named.items()}
    for file in of_file:
        require(file.suffix.lower() in ENDINGS, f"{file} is no PNG, JPEG or WebP image", "remove it from the labels")
    kept, skipped = _whole_and_once(files, of_file)
    side = size or default_size(min(look_at(file)[0] for file in kept), str(folder))
    depth = channels or (1 if all(look_at(file)[1] for file in kept) else 3)
    names = tuple(sorted({label for file, label in of_file.items() if file in set(kept)}))
    require(len(names) > 1, f"{labels.name} labels {len(names)} class", "label images of two classes or more")
    ordered = [file for file in kept if file in of_file] + [file for file in kept if file not in of_file]
    images = torch.from_numpy(np.stack([decode(file, side, depth) for file in ordered]))
    numbers = torch.tensor([names.index(of_file[file]) if file in of_file else HIDDEN for file in ordered])
    pool = ImageData(str(folder), images, numbers, names)
    count = int((numbers != HIDDEN).sum())
    if test:
        report = _in_the_order_of(load_images(test, size=side, channels=depth), names, test)
        return _without_test_images(FewLabels(pool, count, report, skipped=tuple(skipped)))
    return _hold_back(pool, count, seed, tuple(skipped))


def _read_label_file(path: Path, folder: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read ({error})", "give a CSV file with the columns file and label"
        ) from error
    named: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        name, label = row.get("file"), row.get("label")
        require(
            bool(name) and bool(label), f"line {number} of {path.name} has no file or no label", "give both columns"
        )
        assert name and label
        require(
            named.get(name, label) == label,
            f"{path.name} gives {name} the labels {named.get(name)} and {label}",
            "keep one of them",
        )
        named[name] = label
    require(bool(named), f"{path.name} has no rows", f"name a few images of {folder} with their labels")
    return named


def _pictures_below(folder: Path) -> list[Path]:
    require(folder.is_dir(), f"no folder of images {folder}", "check the path")
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())


def _whole_and_once(files: Iterable[Path], labels: Mapping[Path, str]) -> tuple[list[Path], list[str]]:
    """Files that can be decoded, one of each content (a labelled one, if there is one); what was left out and why."""
    by_content: dict[str, Path] = {}
    skipped = []
    for file in sorted(files, key=lambda one: one not in labels):  # labelled ones first
        try:
            decode(file, 8, 1)
        except UserError as error:
            skipped.append(error.what)
            continue
        content = hashlib.blake2b(file.read_bytes()).hexdigest()
        first = by_content.setdefault(content, file)
        if first != file:
            one, other = labels.get(first), labels.get(file)
            require(
                other is None or one == other,
                f"{first} and {file} are the same picture with the labels {one} and {other}",
                "mend the label file",
            )
            skipped.append(f"{file} is a copy of {first.name}")
    return list(by_content.values()), skipped


def _in_the_order_of(data: ImageData, names: Sequence[str], test: str) -> ImageData:
    without = [name for name in data.class_names if name not in names]
    require(
        not without,
        f"class {(without or ['-'])[0]!r} of {test} has no labelled image",
        "label one, or leave that class out of the test images",
    )
    number = torch.tensor([names.index(name) for name in data.class_names])
    return replace(data, labels=number[data.labels], class_names=tuple(names))


def _without_test_images(few: FewLabels) -> FewLabels:
    """Pool without pictures that are also in the test set: those would be reported on after being learned from."""
    tested = {image.numpy().tobytes() for image in few.report.images}
    stays = torch.tensor([image.numpy().tobytes() not in tested for image in few.pool.images])
    if bool(stays.all()):
        return few
    rows = stays.nonzero().flatten()
    gone = len(few.pool) - len(rows)
    note = f"{gone} pictures are also among the test images"
    return replace(
        few, pool=few.pool.take(rows), labelled=int(stays[: few.labelled].sum()), skipped=(*few.skipped, note)
    )


def _hold_back(pool: ImageData, labelled: int, seed: int, skipped: tuple[str, ...]) -> FewLabels:
    """Some labelled images of every class for the report; a class with one label keeps it for learning."""
    rng = np.random.default_rng(derive_seed("hold back", seed))
    labels = pool.labels[:labelled].numpy()
    held = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held.append(members[: min(len(members) - 1, max(1, round(REPORT_SHARE * len(members))))])
    rows = np.sort(np.concatenate(held))
    require(
        len(rows) > 0,
        "no class has two labelled images, so nothing can be reported on",
        "label more, or give test images",
    )
    report = pool.take(torch.from_numpy(rows))
    rest = pool.take(torch.from_numpy(np.setdiff1d(np.arange(len(pool)), rows)))
    return FewLabels(rest, labelled - len(rows), report, skipped=skipped)


def count_words(skipped: Sequence[str], most: int = 5) -> str:
    """ "3 files left out: ..., ..., ..." or an empty string."""
    if not skipped:
        return ""
    listed = "; ".join(skipped[:most]) + ("; ..." if len(skipped) > most else "")
    return f"{len(skipped)} file{'s' if len(skipped) > 1 else ''} left out: {listed}."


def smallest_class(few: FewLabels) -> tuple[str, int]:
    """The class with the fewest labels, and how many it has."""
    counts = Counter(few.pool.labels[: few.labelled].tolist())
    label = min(range(few.pool.classes), key=lambda one: counts[one])
    return few.pool.class_names[label], counts[label]


def limited(few: FewLabels, most: int, seed: int = 0) -> FewLabels:
    """At most `most` labelled images, as even over the classes as they allow: a probe."""
    return few if few.labelled <= most else replace(few, pool=balanced(few.shown, most, seed), labelled=most)
