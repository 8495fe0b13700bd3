"""The target task of a config: few labels and many unlabelled images."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from stillhouse.methods.similar_tasks.config import Config
from stillhouse.vision.classes import of_classes
from stillhouse.vision.few_labels import FewLabels, hide_labels, read_few_labels
from stillhouse.vision.images import ImageData, load_images


def load_target(config: Config) -> FewLabels:
    """Images with a label file, or a labelled set with most labels hidden.

    Raises:
        UserError: nothing is there, or labels and images do not fit together.
    """
    size = config.size or None
    if config.label_file:
        folder, labels = Path(config.data).expanduser(), Path(config.label_file).expanduser()
        return read_few_labels(folder, labels, config.test, config.seed, size, None, config.unlabelled)
    return hide_labels(_labelled_set(config.data, size, config.classes), config.labels, config.seed, config.images)


@lru_cache(maxsize=2)  # 70,000 images take seconds to read, and many draws of labels are made from one set
def _labelled_set(name: str, size: int | None, classes: tuple[str, ...]) -> ImageData:
    return of_classes(load_images(name, size=size), classes)
