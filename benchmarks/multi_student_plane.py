"""Multi-Student Distillation on 64 Gaussians in the plane, in 16 classes: the package's engine, partition and router around
small networks, cheap enough for five seeds of every arm."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from disback_grid import SHAPE, wasserstein
from stillhouse.core.ema import Ema
from stillhouse.core.seeding import generator, seed_everything
from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.losses import denoising_loss
from stillhouse.diffusion.preconditioning import Edm
from stillhouse.diffusion.recipe import Cadence, Recipe
from stillhouse.diffusion.router import Parts, RoutedDenoiser, divide
from stillhouse.diffusion.score_distillation import ConstantTarget, Discriminator, ScoreDistillation
from stillhouse.diffusion.score_matching import matching_step

CLASSES, MODES_A_CLASS, SIDE = 16, 4, 8
SPREAD, HALF_WIDTH = 0.02, 0.875
SIGMA = 80.0
GAN_SHARE = 0.2
"""The methods' default; at 1 the adversarial stage undoes the matching stage: W2 of 0.25 to 0.5 from 0.13."""
POINTS_A_CLASS = 200
CONDITIONS = Conditions(tuple(map(str, range(CLASSES))), torch.arange(CLASSES))


class ClassDenoiser(nn.Module):
    """D(x; sigma, class) of points in the plane: a perceptron behind EDM's preconditioning."""

    def __init__(self, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.preconditioning, self.sample_shape, self.null_condition = Edm(), SHAPE, None
        self.unet = nn.ModuleDict(
            {
                "class_embedding": nn.Embedding(CLASSES, 8),
                "first": nn.Sequential(nn.Linear(3 + 8, width), nn.SiLU()),
                "hidden": nn.Sequential(
                    *(layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), nn.SiLU()))
                ),
                "last": nn.Linear(width, 2),
            }
        )

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """c_skip x + c_out F(c_in x; c_noise, class)."""
        c_skip, c_out = (c[:, None] for c in self.preconditioning.coefficients(sigma)[:2])
        made = c_skip * x.flatten(1) + c_out * self.unet["last"](self.hidden(x, sigma, condition))
        return made.view_as(x)

    def features(self, x: Tensor, sigma: Tensor, condition: Tensor | None, at: str) -> Tensor:
        """What the discriminator's head sits on."""
        return self.hidden(x, sigma, condition)

    def hidden(self, x: Tensor, sigma: Tensor, condition: Tensor | None) -> Tensor:
        """The last hidden layer."""
        _, _, c_in, c_noise = (c[:, None] for c in self.preconditioning.coefficients(sigma))
        known = self.unet["class_embedding"](condition)
        return self.unet["hidden"](self.unet["first"](torch.cat([c_in * x.flatten(1), c_noise, known], dim=1)))


def plane_points(labels: Tensor, *purpose: str | int) -> Tensor:
    """Points of each label's four modes, a block of two by two on a grid of eight by eight, deviation 0.02."""
    random = generator("plane", *purpose)
    mode = torch.randint(MODES_A_CLASS, (len(labels),), generator=random)
    column = 2 * (labels % 4) + mode % 2
    row = 2 * (labels // 4) + mode // 2
    centres = torch.stack([column, row], dim=1) * (2 * HALF_WIDTH / (SIDE - 1)) - HALF_WIDTH
    return centres + SPREAD * torch.randn(len(labels), 2, generator=random)


def plane_teacher(updates: int = 3000) -> ClassDenoiser:
    """Trained with the EDM loss; the same for every arm and seed."""
    seed_everything("plane teacher")
    network = ClassDenoiser()
    optimizer, average = torch.optim.Adam(network.parameters(), 2e-3), Ema(network, 0.995)
    for i in range(updates):
        labels = torch.randint(CLASSES, (512,))
        x = plane_points(labels, "train", i).view(-1, *SHAPE)
        sigma = (1.2 * torch.randn(512) - 1.2).exp()
        noised = x + sigma[:, None, None, None] * torch.randn_like(x)
        loss = denoising_loss(network(noised, sigma, labels), x, Edm().loss_weight(sigma))
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, 2 * (1 - i / updates))
        optimizer.step()
        average.update()
    return average.average


@dataclass(frozen=True)
class PlaneArm:
    """An arm: how many students, how large, on which parts, with how many updates of which stage."""

    students: int = 1
    batch: int = 64
    width: int = 0
    """Of a small student; the teacher's own network by default."""
    score_matching: int = 0
    """Updates of it; for small students."""
    partition: Literal["consecutive", "kmeans", "random"] = "consecutive"
    matching: int = 150
    adversarial: int = 0


def plane_run(teacher: ClassDenoiser, arm: PlaneArm, rate: float, seed: int) -> dict[str, Any]:
    """W2 averaged over classes after each stage, with the passes that all students took until then."""
    parts = divide(teacher.unet["class_embedding"].weight.detach(), arm.students, arm.partition, seed)
    matched, ended, passes = [], [], [0, 0]
    for number, part in enumerate(parts):
        student, spent = start(teacher, arm, part, number, seed)
        engine = stage(teacher, student, copy.deepcopy(teacher), arm, part, rate)
        train(engine, arm.matching, seed, "matching", number)
        matched.append(engine.ema.average)
        passes[0] += spent + engine.ledger["network_passes"]
        if arm.adversarial:
            seed_everything(seed, "head", number)
            second = stage(teacher, engine.ema.average, engine.fake_score, arm, part, rate, gan=True)
            train(second, arm.adversarial, seed, "adversarial", number)
            ended.append(second.ema.average)
            passes[1] += spent + engine.ledger["network_passes"] + second.ledger["network_passes"]
    found = {"matching": {"w2": quality(matched, parts, seed), "passes": passes[0]}}
    if ended:
        found["adversarial"] = {"w2": quality(ended, parts, seed), "passes": passes[1]}
    sizes = [sum(p.numel() for p in network.parameters()) for network in matched]
    return {**found, "parameters": sum(sizes), "used": sizes[0]}


def start(teacher: ClassDenoiser, arm: PlaneArm, part: tuple[int, ...], number: int, seed: int) -> tuple[Any, int]:
    """The initial student: the teacher, or a narrower network after teacher score matching on its part."""
    if not arm.width:
        return teacher, 0
    seed_everything(seed, "narrow", number)
    student = ClassDenoiser(arm.width, 2)
    average = Ema(student, 0.99)
    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    for i in range(arm.score_matching):
        seed_everything(seed, "score matching", number, i)
        labels = torch.tensor(part)[torch.randint(len(part), (arm.batch,))]
        x = plane_points(labels, "part", number, i).view(-1, *SHAPE)
        sigma = teacher.preconditioning.sigma(torch.rand(arm.batch))
        loss = matching_step(student, teacher, x, sigma, torch.randn_like(x), labels)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, 2 * (1 - i / arm.score_matching))
        optimizer.step()
        average.update()
    return (average.average if arm.score_matching else student), 3 * arm.batch * arm.score_matching


def stage(
    teacher: ClassDenoiser,
    student: Any,
    critic: Any,
    arm: PlaneArm,
    part: tuple[int, ...],
    rate: float,
    gan: bool = False,
) -> ScoreDistillation:
    """The engine of one stage of one student."""
    labels = torch.tensor(part)[torch.arange(2048) % len(part)]
    real = plane_points(labels, "real", *part).view(-1, *SHAPE)
    student, critic = (copy.deepcopy(network).requires_grad_(True) for network in (student, critic))
    numbers = Recipe(
        batch=arm.batch,
        cadence=Cadence(2, 1),
        sigmas=(SIGMA,),
        student_lr=rate,
        fake_lr=2 * rate,
        weight_decay=0.0,
        steps=2 * (arm.adversarial if gan else arm.matching),
        cooldown=0.3,
        ema_decay=0.95,
        gan_weight="auto" if gan else 0.0,
        gan_share=GAN_SHARE,
    )
    head = nn.Sequential(nn.Linear(128, 64), nn.SiLU(), nn.Linear(64, 1), nn.Flatten(0)) if gan else None
    discriminator = Discriminator(head, critic) if head else None
    return ScoreDistillation(
        student, ConstantTarget(teacher), critic, CONDITIONS, RealImages(real, labels), numbers, discriminator
    )


def train(engine: ScoreDistillation, updates: int, seed: int, name: str, number: int) -> None:
    """So many student updates, two critic updates each."""
    for i in range(2 * updates):
        seed_everything(seed, name, number, i)
        engine.step(i)


@torch.no_grad()
def quality(students: list[Any], parts: Parts, seed: int) -> float:
    """W2 of the routed students' points to the class's own, averaged over classes."""
    routed = RoutedDenoiser(students, parts, None)
    labels = torch.arange(CLASSES).repeat_interleave(POINTS_A_CLASS)
    noise = torch.randn(len(labels), *SHAPE, generator=generator(seed, "plane noise"))
    made = routed(SIGMA * noise, torch.full((len(labels),), SIGMA), labels).flatten(1)
    return distance(made, plane_points(labels, "judge", seed))


def distance(made: Tensor, real: Tensor) -> float:
    """W2 averaged over classes."""
    pairs = zip(made.split(POINTS_A_CLASS), real.split(POINTS_A_CLASS), strict=True)
    return sum(wasserstein(a, b) for a, b in pairs) / CLASSES


def plane_floor(seed: int) -> float:
    """W2 of one draw of the classes to another."""
    labels = torch.arange(CLASSES).repeat_interleave(POINTS_A_CLASS)
    return distance(plane_points(labels, "floor", seed), plane_points(labels, "judge", seed))
