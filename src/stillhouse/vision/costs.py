"""What a network costs: parameters, multiply-accumulates, measured seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]
"""Channels, height, width of one image."""


def parameters(network: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def macs(network: nn.Module, shape: Shape) -> int:
    """Multiply-accumulates of the convolutions and linear layers for one image."""
    return sum(layer_macs(network, shape).values())


@torch.no_grad()
def layer_macs(network: nn.Module, shape: Shape) -> dict[str, int]:
    """Multiply-accumulates of each convolution and linear layer by its name, for one image; a layer used twice counts twice."""
    counts: dict[str, int] = {}

    def counter(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def count(module: nn.Module, _: Any, output: Tensor) -> None:
            weight: Tensor = module.weight  # type: ignore[assignment]
            places = output.shape[2:].numel() if isinstance(module, nn.Conv2d) else output[..., 0].numel()
            counts[name] = counts.get(name, 0) + weight.numel() * places

        return count

    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(counter(name)) for name, layer in layers]
    training = network.training
    try:
        network.eval()(torch.zeros(1, *shape))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return counts


@torch.no_grad()
def latency_seconds(network: nn.Module, shape: Shape, batch: int = 1, repeats: int = 9) -> float:
    """Median seconds an image, on this machine with the threads that torch has now; two warm-up passes are not counted."""
    images = torch.zeros(batch, *shape)
    training = network.training
    network.eval()
    taken = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        network(images)
        taken.append(time.perf_counter() - started)
    network.train(training)
    return float(np.median(taken[2:])) / batch
