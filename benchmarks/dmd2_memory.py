"""Peak memory and seconds a step of DMD2 at one batch and width: python benchmarks/dmd2_memory.py BATCH WIDTH

Prints megabytes before the networks exist, megabytes at the peak, seconds a step, and parameters of one network.
"""

import copy
import sys
import time
from pathlib import Path

import torch

from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.discriminator import DiscriminatorHead, feature_shape
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.preconditioning import Edm
from stillhouse.diffusion.recipe import Recipe
from stillhouse.diffusion.score_distillation import ConstantTarget, Discriminator, ScoreDistillation
from stillhouse.diffusion.teacher import new_unet

STEPS = 10


def peak_mb() -> float:
    """Largest resident memory of this process so far, in megabytes."""
    # not ru_maxrss, which a child process inherits from its parent
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(batch: int, width: int) -> None:
    """Ten steps, two of which update the student, as 5:1 does."""
    torch.set_num_threads(1)
    before = peak_mb()
    teacher = Denoiser(new_unet((width, 2 * width), 1, 8, 10, None), Edm()).requires_grad_(False)
    student, fake = (copy.deepcopy(teacher).requires_grad_(True) for _ in range(2))
    head = DiscriminatorHead(*feature_shape(fake, torch.tensor([0]), "mid_block"))
    engine = ScoreDistillation(
        student,
        ConstantTarget(teacher),
        fake,
        Conditions(tuple(map(str, range(10))), torch.arange(10)),
        RealImages(torch.randn(1000, 1, 8, 8), torch.arange(1000) % 10),
        Recipe(batch=batch, gan_weight="auto"),
        Discriminator(head, fake),
    )
    engine.step(0)
    started = time.perf_counter()
    for i in range(STEPS):
        engine.step(i)
    print(before, peak_mb(), (time.perf_counter() - started) / STEPS, teacher.parameter_count)


main(int(sys.argv[1]), int(sys.argv[2]))
