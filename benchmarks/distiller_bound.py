"""The bound I_alpha against a mutual information that is known: correlated Gaussians (acceptance rule A5)."""

from __future__ import annotations

import numpy as np
import torch

from stillhouse.core.seeding import seed_everything
from stillhouse.encoders.mutual_information import SeparableCritic, interpolated_bound

DIMENSIONS, BATCH, STEPS, LAST = 20, 64, 800, 200
ASKED = ((2.0, 0.5), (6.0, 0.01), (6.0, 0.1), (6.0, 0.9))
"""(true nats, alpha) that the rule looks at."""


def estimated_information(nats: float, alpha: float, seed: int) -> dict[str, float]:
    """Mean and standard deviation of the bound over the last updates of a critic's training.

    x, y are 20-dimensional normals with correlation rho in each dimension, I(x; y) = - 10 log(1 - rho^2).
    """
    seed_everything("bound", seed, str(nats), str(alpha))
    rho = float(np.sqrt(1 - np.exp(-2 * nats / DIMENSIONS)))
    critic = SeparableCritic(DIMENSIONS, DIMENSIONS, 128, 64)
    optimizer = torch.optim.Adam(critic.parameters(), 5e-4)
    values = []
    for _ in range(STEPS):
        x = torch.randn(BATCH, DIMENSIONS)
        y = rho * x + (1 - rho**2) ** 0.5 * torch.randn(BATCH, DIMENSIONS)
        bound = interpolated_bound(*critic(x, y), alpha)
        optimizer.zero_grad()
        (-bound).backward()
        optimizer.step()
        values.append(float(bound.detach()))
    return {"mean": float(np.mean(values[-LAST:])), "sd": float(np.std(values[-LAST:]))}
