"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class Ema(Generic[Network]):
    """Keeps average <- d average + (1 - d) weights, with d = min(decay, (1 + updates) / (10 + updates)).

    Args:
        network: the network that is trained.
        decay: weight of the past at each update; 0 keeps the plain weights.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network, self.decay, self.updates = network, decay, 0
        self.average = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's present weights into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for average, present in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(present.detach(), 1 - decay)
        for kept, buffer in zip(self.average.buffers(), self.network.buffers(), strict=True):
            kept.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average.state_dict(), "updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average.load_state_dict(state_dict["average"])
        self.updates = state_dict["updates"]
