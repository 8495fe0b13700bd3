"""Teacher score matching: a network of another shape learns the teacher's denoised images before it is distilled.

    L_TSM = E_t lambda_t || mu_phi(x_t, t, c) - mu_teacher(x_t, t, c) ||^2,  x_t a noised real image

Multi-Student Distillation (arXiv 2410.23274, section 3.3). Its weights then start a student that is smaller than the
teacher, which cannot start as a copy of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from stillhouse.core.distributed import average_gradients, average_scalars, rank, world_size
from stillhouse.core.ema import Ema
from stillhouse.core.errors import require
from stillhouse.core.ledger import Ledger
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.core.training import Stateful, fit
from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.losses import denoising_loss
from stillhouse.diffusion.samplers import guided
from stillhouse.diffusion.students import Charge, StudentTask
from stillhouse.diffusion.teacher import new_unet

CLIP = 1.0


def narrower(teacher: Denoiser, widths: tuple[int, ...], seed: int) -> Denoiser:
    """A new denoiser of the teacher's kind with other widths, its conditions and its preconditioning.

    Raises:
        UserError: the widths do not fit the normalisation or the image size.
    """
    channels, size, _ = teacher.sample_shape
    require(
        bool(widths) and all(w > 0 and w % 8 == 0 for w in widths), f"student widths {widths}", "use multiples of 8"
    )
    halvings = len(widths) - 1
    require(size % 2**halvings == 0, f"{len(widths)} levels for images of {size} x {size}", "give fewer widths")
    seed_everything(seed, "weights of a narrower student")
    known = teacher.config.num_class_embeds if not teacher.takes_text else None
    text = teacher.config.cross_attention_dim if teacher.takes_text else None
    # `new_unet` counts the null class itself
    unet: Any = new_unet(widths, channels, size, (known or 1) - 1, text)
    if known is None and not teacher.takes_text:
        unet.class_embedding = None
        unet.register_to_config(num_class_embeds=None)
    made = Denoiser(unet, teacher.preconditioning, teacher.null_condition)
    made.autocast_dtype = teacher.autocast_dtype
    return made.to(next(teacher.parameters()).device)


def matching_step(
    student: Denoiser,
    teacher: Denoiser,
    images: Tensor,
    sigma: Tensor,
    noise: Tensor,
    condition: Tensor | None,
    guidance_scale: float = 1.0,
) -> Tensor:
    """L_TSM on one batch; no gradient reaches the teacher."""
    noised = images + sigma[:, None, None, None] * noise
    with torch.no_grad():
        wanted = guided(teacher, condition, guidance_scale)(noised, sigma)
    return denoising_loss(student(noised, sigma, condition), wanted, teacher.preconditioning.loss_weight(sigma))


def match_teacher(
    widths: tuple[int, ...],
    teacher: Denoiser,
    conditions: Conditions,
    data: RealImages,
    task: StudentTask,
    updates: int,
    lr: float,
    run: Run,
    stage: str = "score-matching",
) -> tuple[Denoiser, Charge]:
    """A narrower student that denoises as the teacher does, and what it cost.

    Args:
        widths: of the student's levels.
        data: real images, or the part of them that the student is for.
        task: batch and seed.
        updates, lr: Adam's, the rate rising over 100 updates and falling over the second half.
    """
    student = narrower(teacher, widths, task.seed).requires_grad_(True).train()
    optimizer = torch.optim.Adam(student.parameters(), lr, betas=(0.9, 0.99))
    ema, ledger = Ema(student, 0.99), Ledger()
    images, device = data.images, data.labels.device
    assert images is not None

    def step(i: int) -> dict[str, float]:
        index = torch.randint(len(images), (task.batch,))
        position, noise = torch.rand(task.batch), torch.randn(task.batch, *images.shape[1:])
        mine = slice(rank(), None, world_size())
        index, position, noise = (t[mine].to(device) for t in (index, position, noise))
        sigma, condition = teacher.preconditioning.sigma(position), conditions.of(data.labels[index])
        loss = matching_step(student, teacher, images[index], sigma, noise, condition)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(student.parameters())
        clip_grad_norm_(student.parameters(), CLIP)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (i + 1) / 100, 2 * (1 - i / updates))
        optimizer.step()
        ema.update()
        ledger.add("network_passes", 3 * task.batch)
        return average_scalars({"score_matching": loss.item()})

    state: dict[str, Stateful] = {"student": student, "ema": ema, "optimizer": optimizer, "ledger": ledger}
    fitted = fit(step, state, updates, run, stage=stage)
    matched = ema.average
    return matched, Charge(ledger["network_passes"], fitted.seconds, {"score_matching": fitted.updates})
