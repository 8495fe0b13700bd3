"""Low-rank adapters on a UNet, through peft."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from stillhouse.core.errors import UserError
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.samplers import guided


def with_lora(
    denoiser: Denoiser, rank: int, alpha: int | None = None, layers: tuple[str, ...] | None = None
) -> Denoiser:
    """`denoiser` with its weights frozen and adapters on its convolutions and projections, as another network.

    The weights below the adapters are the same tensors, not copies: they are held once.

    Args:
        rank: of the adapters (arXiv 2106.09685).
        alpha: their scale is alpha / rank; `rank` by default.
        layers: last parts of the names of the layers that get one; all convolutions and projections by default.

    Raises:
        UserError: the network has no layer that an adapter fits.
    """
    targets = [
        name
        for name, module in denoiser.unet.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and min(module.weight.shape[:2]) > 1 and _ungrouped(module)
        if layers is None or name.split(".")[-1] in layers
    ]
    if not targets:
        named = f" named {' or '.join(layers)}" if layers else ""
        raise UserError(f"the teacher has no layer{named} for adapters", "use another teacher, or other layers")
    config = LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=targets)
    shared = {id(p): p for p in (*denoiser.unet.parameters(), *denoiser.unet.buffers())}
    unet = get_peft_model(copy.deepcopy(denoiser.unet, shared), config)
    adapted = Denoiser(unet, denoiser.preconditioning, denoiser.null_condition)
    adapted.autocast_dtype = denoiser.autocast_dtype
    return adapted


class AdaptersOff:
    """The target score that a network with adapters is without them: the frozen network itself, held once."""

    def __init__(self, adapted: Denoiser) -> None:
        self.adapted = adapted

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, guidance_scale: float) -> Tensor:
        """The teacher's denoised image of the noised x: the network without its adapters."""
        with self.adapted.unet.disable_adapter():
            return guided(self.adapted, condition, guidance_scale)(x, sigma)

    def after_student_update(self, score_gap: float) -> None:
        """Nothing changes."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""


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
