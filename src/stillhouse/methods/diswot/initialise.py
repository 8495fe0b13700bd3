"""Random weights, as the scores want them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

Scheme = Literal["gaussian", "kaiming", "default"]
"""gaussian: N(0, 1) for every convolution and linear weight (released); kaiming: N(0, 2 / fan-out); default: torch's own."""


@torch.no_grad()
def initialise(
    network: nn.Module, scheme: Scheme, generator: torch.Generator, head_deviation: float | None = None
) -> None:
    """Draw all weights anew: normalisation 1 and 0, biases 0.

    Args:
        network: changed in place.
        scheme: of convolutions and linear layers.
        generator: what is drawn from.
        head_deviation: standard deviation of linear layers' weights; by default the scheme's. Under normalisation only this
            part of N(0, 1) matters: it saturates the softmax.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            deviation = _deviation(module, scheme)
            if isinstance(module, nn.Linear) and head_deviation is not None:
                deviation = head_deviation
            module.weight.normal_(0, deviation, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            if module.weight is not None:
                module.weight.fill_(1)
                module.bias.zero_()
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()


def _deviation(module: nn.Conv2d | nn.Linear, scheme: Scheme) -> float:
    weight = module.weight
    match scheme:
        case "gaussian":
            return 1.0
        case "kaiming":
            places = weight[0, 0].numel() if weight.ndim == 4 else 1
            fan_out = weight.shape[0] * places if weight.ndim == 4 else weight.shape[1]
            return math.sqrt(2 / fan_out) if weight.ndim == 4 else 1 / math.sqrt(fan_out)
        case "default":
            return 1 / math.sqrt(3 * weight[0].numel())
