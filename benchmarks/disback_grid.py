"""DisBack on 25 Gaussians in the plane: the engine and the walk of the package around a small network."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from stillhouse.core.ema import Ema
from stillhouse.core.seeding import generator, seed_everything
from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.degradation import Backtracking, node_network, node_updates, save_node
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.losses import denoising_loss, plain_matching_gradient
from stillhouse.diffusion.preconditioning import Edm
from stillhouse.diffusion.recipe import Cadence, Recipe
from stillhouse.diffusion.score_distillation import ConstantTarget, ScoreDistillation

SHAPE = (1, 1, 2)
MODES, SPREAD = 25, 0.02
CURVE_SHARES = (0.0, 0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
POINTS = 500
"""Of a curve's W2; the assignment's time grows with their cube."""
NOTHING = Conditions(("point",), None)


@dataclass(frozen=True)
class Regime:
    """Where the student starts, and the noise at which it is compared with its target."""

    name: str
    title: str
    sigma: float
    """Noise level at which the student is called: low, and its first points are near the modes."""
    matching_range: tuple[float, float]
    """Part of the noise grid that the matching loss draws from: little noise leaves the student's points where the
    teacher has never seen any."""
    updates: int


REGIMES = (
    Regime("all-noise", "25-mode grid, start at sigma 2.5, matched at all noise levels", 2.5, (0.02, 0.98), 800),
    # sigma 0.03 to 3.3, four fifths of the draws of ln sigma ~ N(-1.2, 1.2), which Diff-Instruct is published with
    Regime("little-noise", "25-mode grid, start at sigma 2.5, matched at sigma 0.03 to 3.3", 2.5, (0.13, 0.53), 800),
)


class PlaneDenoiser(nn.Module):
    """D(x; sigma) of points in the plane: a perceptron behind EDM's preconditioning."""

    def __init__(self, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.preconditioning, self.sample_shape, self.null_condition = Edm(), SHAPE, None
        layers: list[nn.Module] = [nn.Linear(3, width), nn.SiLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.unet = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """c_skip x + c_out F(c_in x; c_noise)."""
        c_skip, c_out, c_in, c_noise = (c[:, None] for c in self.preconditioning.coefficients(sigma))
        flat = x.flatten(1)
        made = c_skip * flat + c_out * self.unet(torch.cat([c_in * flat, c_noise], dim=1))
        return made.view_as(x)


def grid_points(count: int, *purpose: str | int) -> Tensor:
    """Points of the mixture: 25 modes on a grid from -0.8 to 0.8, deviation 0.02."""
    random = generator("grid", *purpose)
    modes = torch.randint(MODES, (count,), generator=random)
    centres = torch.stack([modes % 5, modes // 5], dim=1) * 0.4 - 0.8
    return centres + SPREAD * torch.randn(count, 2, generator=random)


def wasserstein(a: Tensor, b: Tensor) -> float:
    """Exact W2 between two equally large sets of points."""
    costs = torch.cdist(a.double(), b.double()).square().numpy()
    return float(np.sqrt(costs[linear_sum_assignment(costs)].mean()))


def grid_teacher(updates: int = 4000) -> PlaneDenoiser:
    """Trained with the EDM loss; the same for every arm and seed."""
    seed_everything("grid teacher")
    network = PlaneDenoiser()
    optimizer, average = torch.optim.Adam(network.parameters(), 1e-3), Ema(network, 0.999)
    for i in range(updates):
        x = grid_points(512, "train", i).view(-1, *SHAPE)
        sigma = (1.2 * torch.randn(512) - 1.2).exp()
        noised = x + sigma[:, None, None, None] * torch.randn_like(x)
        loss = denoising_loss(network(noised, sigma), x, Edm().loss_weight(sigma))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update()
    return average.average


def grid_arm(
    teacher: PlaneDenoiser,
    path: str,
    switch: str,
    switch_updates: int,
    regime: Regime,
    rate: float,
    seed: int,
    recording: int = 100,
    nodes: int = 5,
) -> Any:
    """W2 along the training of one arm, with its passes, recording included."""
    sigma, updates = regime.sigma, regime.updates
    numbers = {"batch": 128, "sigmas": (sigma,), "weight_decay": 0.0, "ema_decay": 0.99, "fake_lr": 2 * rate}
    data, passes = RealImages(None, torch.zeros(512, dtype=torch.long)), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder, critic = Path(scratch), copy.deepcopy(teacher)
        if path != "none":
            passes = record(teacher, numbers, folder, recording, nodes, seed)
            critic = node_network(folder, nodes, teacher)
        target = ConstantTarget(teacher)
        if path == "backtrack":
            target = Backtracking(teacher, folder, nodes, switch, switch_updates, updates // (2 * nodes))
        engine = ScoreDistillation(
            copy.deepcopy(teacher).requires_grad_(True),
            target,
            critic.requires_grad_(True),
            NOTHING,
            data,
            Recipe(
                **numbers,
                student_lr=rate,
                cadence=Cadence(1, 1),
                matching_gradient=plain_matching_gradient,
                matching_range=regime.matching_range,
            ),
        )
        curve, when = [], {round(share * updates) for share in CURVE_SHARES}
        for i in range(updates + 1):
            if i in when:
                position = {"student_updates": i, "network_passes": passes + engine.ledger["network_passes"]}
                curve.append({**position, "value": quality(engine.ema.average, sigma, seed)})
            if i < updates:
                seed_everything(seed, "student", i)
                engine.step(i)
    visits = [list(visit) for visit in target.visits] if isinstance(target, Backtracking) else []
    return {"curve": curve, "visits": visits}


def record(teacher: PlaneDenoiser, numbers: dict[str, Any], folder: Path, updates: int, nodes: int, seed: int) -> int:
    """The path from the teacher to its one-step student, as nodes in a folder; the passes it took."""
    degraded = copy.deepcopy(teacher).requires_grad_(True)
    data = RealImages(None, torch.zeros(512, dtype=torch.long))
    frozen = copy.deepcopy(teacher).requires_grad_(False)
    recorder = ScoreDistillation(frozen, ConstantTarget(teacher), degraded, NOTHING, data, Recipe(**numbers))
    when = node_updates(updates, nodes)
    for i in range(updates):
        seed_everything(seed, "recording", i)
        recorder.step(i)
        if i + 1 in when:
            save_node(folder, when.index(i + 1) + 1, degraded, teacher)
    return recorder.ledger["network_passes"]


@torch.no_grad()
def quality(student: nn.Module, sigma: float, seed: int) -> float:
    """W2 of the student's points to the mixture's."""
    noise = torch.randn(POINTS, *SHAPE, generator=generator(seed, "grid noise"))
    return wasserstein(
        student(sigma * noise, torch.full((POINTS,), sigma)).flatten(1), grid_points(POINTS, "judge", seed)
    )


def grid_floor(seed: int) -> float:
    """W2 of one draw of the mixture to another."""
    return wasserstein(grid_points(POINTS, "floor", seed), grid_points(POINTS, "judge", seed))
