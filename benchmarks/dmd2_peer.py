"""The pip-installable peer, nvidia-modelopt's DMDPipeline, on our teacher: same weights, data, updates and metric.

Its rectified-flow time t is our noise level sigma = t / (1 - t), after multiplying its x_t by 1 / (1 - t); so one wrapper
that predicts x0 lets it distil the very same EDM teacher. Install with: pip install --no-deps nvidia-modelopt==0.47.0
"""

from __future__ import annotations

import copy
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.core.ema import Ema
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.evaluation import student_sampler
from stillhouse.diffusion.recipe import Recipe
from stillhouse.diffusion.task import ImageTask, curve_updates, prepare

LARGEST_T = 80 / 81
"""sigma = 80."""
SMALLEST_T = 0.002 / 1.002
GAN_WEIGHT = 3e-3
"""The paper's; the peer has no rule for choosing it."""
HEAD_RATE = 1e-3
"""As our discriminator's head has it."""


def peer_version() -> str | None:
    """The installed peer's version, or None."""
    try:
        return metadata.version("nvidia-modelopt")
    except metadata.PackageNotFoundError:
        return None


class RectifiedFlowView(nn.Module):
    """Our denoiser as the peer calls networks: x_t = (1 - t) x0 + t eps in, x0 out; features kept for its GAN."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        t = timestep.to(hidden_states.dtype)
        return self.denoiser(hidden_states / (1 - t)[:, None, None, None], t / (1 - t), encoder_hidden_states)


def keep_features(view: RectifiedFlowView) -> None:
    """What the peer's feature capture does for its own networks: collect the bottleneck's output."""
    view._fastgen_captured = []  # type: ignore[assignment]
    view.denoiser.unet.mid_block.register_forward_hook(lambda _m, _i, output: view._fastgen_captured.append(output))


def peer_run(
    setting: dict[str, Any], updates: int, seed: int, gan: bool, rate: float, judged_on: str
) -> dict[str, Any]:
    """Distil with the peer for `updates` student updates, five critic updates each, and judge it as our arms are."""
    from modelopt.torch.fastgen.config import DMDConfig, SampleTimestepConfig
    from modelopt.torch.fastgen.discriminators import Discriminator_ImageDiT
    from modelopt.torch.fastgen.methods.dmd import DMDPipeline

    options = {name: value for name, value in setting.items() if name not in ("batch", "cooldown", "ema_decay")}
    task = ImageTask(**options, seed=seed, judged_on=judged_on)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as place, Run.create("peer", {}, out=Path(place) / "run", quiet=True) as run:
        ready = prepare(task, run)
    seed_everything(seed, "peer")
    batch = setting.get("batch", 64)
    teacher = RectifiedFlowView(ready.teacher.denoiser)
    student, fake = (RectifiedFlowView(copy.deepcopy(teacher.denoiser).requires_grad_(True)) for _ in range(2))
    discriminator = None
    if gan:
        keep_features(teacher)
        discriminator = Discriminator_ImageDiT(num_blocks=1, feature_indices={0}, inner_dim=setting["widths"][-1])
    times = SampleTimestepConfig(min_t=SMALLEST_T, max_t=LARGEST_T)
    config = DMDConfig(
        pred_type="x0", fake_score_pred_type="x0", sample_t_cfg=times, gan_loss_weight_gen=GAN_WEIGHT if gan else 0.0
    )
    pipeline = DMDPipeline(student, teacher, fake, config, discriminator=discriminator)
    betas, ema = (0.9, 0.999), Ema(student.denoiser, 0.99)
    student_optimizer = torch.optim.AdamW(student.parameters(), rate, betas=betas)
    fake_optimizer = torch.optim.AdamW(fake.parameters(), 2 * rate, betas=betas)
    head_optimizer = torch.optim.AdamW(discriminator.parameters(), HEAD_RATE, betas=betas) if discriminator else None
    optimizers = [optimizer for optimizer in (student_optimizer, fake_optimizer, head_optimizer) if optimizer]
    full_rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    schedule = Recipe(steps=5 * updates, cooldown=setting["cooldown"])
    images, labels = ready.splits.train.images, ready.splits.train.labels
    passes, seconds, curve = 0, 0.0, []

    def judge(done: int) -> None:
        metrics = ready.measure(student_sampler(ema.average, (80.0,)))
        curve.append({**metrics, "student_updates": done, "network_passes": passes, "seconds": seconds})

    when = set(curve_updates(updates))
    judge(0)
    for step in range(5 * updates):
        started = time.monotonic()
        for optimizer, full in zip(optimizers, full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = full * schedule.rate_share(step)
        index = torch.randint(len(images), (batch,))
        x, condition = images[index], ready.conditions.of(labels[index])
        noise = torch.randn_like(x)
        if step % 5 == 0:
            losses = pipeline.compute_student_loss(x, noise, condition)
            student_optimizer.zero_grad()
            losses["total"].backward()
            nn.utils.clip_grad_norm_(student.parameters(), 10.0)
            student_optimizer.step()
            ema.update()
            passes += batch * (2 + 1 + (2 if gan else 1))
        fake_optimizer.zero_grad()
        pipeline.compute_fake_score_loss(x, noise, condition)["total"].backward()
        nn.utils.clip_grad_norm_(fake.parameters(), 10.0)
        fake_optimizer.step()
        passes += batch * 3
        if discriminator and head_optimizer:
            head_optimizer.zero_grad()
            pipeline.compute_discriminator_loss(x, noise, condition)["total"].backward()
            head_optimizer.step()
            passes += batch * 3
        seconds += time.monotonic() - started
        if step % 5 == 4 and step // 5 + 1 in when:
            judge(step // 5 + 1)
    return {
        "metrics": {k: v for k, v in curve[-1].items() if k not in ("student_updates", "network_passes", "seconds")},
        "curve": curve,
        "training_seconds": seconds,
        "training_passes": passes,
    }
