"""A classifier of images as other tools take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stillhouse.core.portable import Call, Network, Portable
from stillhouse.core.result import Metric
from stillhouse.vision.images import ImageData

INPUTS = 256
ACCURACY = Metric("accuracy", "Accuracy", "higher", "Share of the report split's images whose class is told right.")
AT_ONCE = 256


def portable_classifier(
    network: nn.Module, train: ImageData, report: ImageData, reopen: Callable[[Path], nn.Module]
) -> Portable:
    """Images [n c h w] in [-1, 1] to class scores [n classes]; accuracy is told on the report split.

    Args:
        network: in evaluation mode.
        train: images whose outputs static int8 takes its ranges from.
        report: images that nothing was fitted on.
        reopen: opens a copy of the model folder.
    """

    def quality(calls: Mapping[str, Call]) -> dict[str, float]:
        parts = [calls["model"]({"images": part.numpy()})[0] for part in report.images.split(AT_ONCE)]
        return {"accuracy": float((np.concatenate(parts).argmax(1) == report.labels.numpy()).mean())}

    inputs = {"images": _spread(report)}
    return Portable(
        (Network("model", network.cpu().eval(), inputs, ("scores",), {"images": _spread(train)}),),
        {"safetensors": lambda folder: [reopen(folder)]},
        f"{len(inputs['images'])} images of the report split of {report.name}",
        (ACCURACY,),
        quality,
        {
            "safetensors": "import safetensors.torch\n\nweights = safetensors.torch.load_file('FOLDER/network.safetensors')"
        },
    )


def _spread(data: ImageData) -> torch.Tensor:
    """Images from everywhere in the set, so from every class."""
    return data.images[torch.linspace(0, len(data) - 1, min(INPUTS, len(data))).round().long()]
