"""Low-rank adapters on a UNet, through peft."""

from __future__ import annotations

import copy
from typing import cast

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from stillhouse.core.errors import UserError
from stillhouse.diffusion.denoiser import Denoiser


def with_lora(denoiser: Denoiser, rank: int, alpha: int | None = None) -> Denoiser:
    """A copy of `denoiser` whose weights are frozen and whose convolutions and projections carry adapters.

    Args:
        rank: of the adapters (arXiv 2106.09685).
        alpha: scale, `rank` by default.

    Raises:
        UserError: the network has no layer that an adapter fits.
    """
    targets = [
        name
        for name, module in denoiser.unet.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and min(module.weight.shape[:2]) > 1 and _ungrouped(module)
    ]
    if not targets:
        raise UserError("the teacher has no layer for adapters", "use --lora-rank 0")
    config = LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=targets)
    unet = get_peft_model(copy.deepcopy(denoiser.unet), config)
    adapted = Denoiser(unet, denoiser.preconditioning, denoiser.null_condition)
    adapted.autocast_dtype = denoiser.autocast_dtype
    return adapted


def merged(denoiser: Denoiser) -> Denoiser:
    """A copy with the adapters added into the weights; the same network where there are none."""
    if not isinstance(denoiser.unet, PeftModel):
        return denoiser
    unet = cast(nn.Module, copy.deepcopy(denoiser.unet).merge_and_unload())
    whole = Denoiser(unet, denoiser.preconditioning, denoiser.null_condition)
    whole.autocast_dtype = denoiser.autocast_dtype
    return whole


def _ungrouped(module: nn.Module) -> bool:
    return not isinstance(module, nn.Conv2d) or module.groups == 1
