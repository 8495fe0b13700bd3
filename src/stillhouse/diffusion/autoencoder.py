"""Latent diffusion: the autoencoder of a Stable Diffusion folder, between images and what the UNet sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from stillhouse.core.errors import UserError, first_line

BATCH = 32
"""Images encoded or decoded at once."""


@dataclass(frozen=True)
class Autoencoder:
    """Images [n, channels, size, size] in [-1, 1] to scaled latents and back."""

    model: Any
    folder: Path

    @property
    def shrink(self) -> int:
        """How many times smaller a latent's side is than its image's."""
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    def weights(self) -> bytes:
        """All parameters' bytes, for cache keys."""
        return b"".join(p.detach().cpu().numpy().tobytes() for p in self.model.parameters())

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "n channels size size"]) -> Float[Tensor, "n latents small small"]:
        """Mean of the encoder's posterior, scaled to about unit variance."""
        parts = [self.model.encode(part).latent_dist.mean for part in images.split(BATCH)]
        return torch.cat(parts) * self.model.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "n latents small small"]) -> Float[Tensor, "n channels size size"]:
        """Images of the latents."""
        scaled = latents / self.model.config.scaling_factor
        return torch.cat([self.model.decode(part).sample for part in scaled.split(BATCH)])


def load_autoencoder(folder: Path) -> Autoencoder | None:
    """The folder's `vae`, or None for a model that works on pixels.

    Raises:
        UserError: it is there but cannot be loaded.
    """
    if not (folder / "vae").is_dir():
        return None
    try:
        model = AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True, local_files_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the autoencoder in {folder / 'vae'} cannot be loaded ({first_line(error)})", "fetch it again"
        ) from error
    return Autoencoder(model.eval().requires_grad_(False), folder)
