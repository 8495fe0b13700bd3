"""A teacher's class scores for every training image, computed once and kept under the hash of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stillhouse.core.cache import cached_folder
from stillhouse.core.files import content_hash
from stillhouse.vision.images import ImageData
from stillhouse.vision.training import StepImages, logits_of

if TYPE_CHECKING:
    from jaxtyping import Float

Teacher = Callable[[StepImages], Tensor]
"""Class scores for the images of a step."""


def weights_hash(network: nn.Module) -> str:
    """Changes with any weight or buffer, and with the modules."""
    state = network.state_dict().items()
    return content_hash([repr(network), *(part for name, value in state for part in (name, value.numpy().tobytes()))])


def cached_logits(network: nn.Module, data: ImageData) -> Float[Tensor, "views n classes"]:
    """Scores of the images as they are (view 0) and mirrored (view 1), from the cache if they were computed before."""

    def make(folder: Path) -> None:
        views = (data.images, data.images.flip(3))
        save_file({"logits": torch.stack([logits_of(network, view) for view in views])}, folder / "logits.safetensors")

    folder = cached_folder("soft outputs", (weights_hash(network), data.content_hash), make)
    return load_file(folder / "logits.safetensors")["logits"]


def cached_teacher(network: nn.Module, data: ImageData) -> Teacher:
    """Looks the scores of unmoved images up: a step costs nothing for the teacher, whatever its size."""
    logits = cached_logits(network, data)
    return lambda step: logits[step.mirror.long(), step.rows]
