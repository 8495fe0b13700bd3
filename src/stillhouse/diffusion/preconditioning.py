"""How a network's output becomes a denoised image: EDM, epsilon- and v-prediction, all as D(x; sigma).

Everything in this package is written in EDM's coordinates (arXiv 2206.00364): x = y + sigma n, with D(x; sigma) the
estimate of y and (D(x; sigma) - x) / sigma^2 the score. A variance-preserving model (x_t = alpha_t y + sigma_t n) is
the same thing at sigma = sigma_t / alpha_t after dividing its input by sqrt(1 + sigma^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class Coefficients(NamedTuple):
    """D(x; s) = c_skip x + c_out F(c_in x; c_noise), one number an image."""

    c_skip: Float[Tensor, " batch"]
    c_out: Float[Tensor, " batch"]
    c_in: Float[Tensor, " batch"]
    c_noise: Float[Tensor, " batch"]


class Preconditioning(Protocol):
    """What the samplers and losses need to know about a model's noise."""

    @property
    def sigma_min(self) -> float:
        """The least noise level."""
        ...

    @property
    def sigma_max(self) -> float:
        """The greatest noise level."""
        ...

    def coefficients(self, sigma: Float[Tensor, " batch"]) -> Coefficients:
        """c_skip, c_out, c_in and c_noise at noise level `sigma`."""
        ...

    def sigma(self, position: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Noise level at `position` in [0, 1] of the model's own grid, from small to large."""
        ...

    def loss_weight(self, sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Weight of |D - y|^2 that makes it the model's own training loss."""
        ...


def karras_sigmas(position: Float[Tensor, " n"], sigma_min: float, sigma_max: float, rho: float) -> Float[Tensor, " n"]:
    """sigma(u) = (smin^(1/rho) + u (smax^(1/rho) - smin^(1/rho)))^rho (arXiv 2206.00364, eq. 5, reversed)."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (low + position * (high - low)) ** rho


@dataclass(frozen=True)
class Edm:
    """EDM preconditioning (arXiv 2206.00364, table 1)."""

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def coefficients(self, sigma: Float[Tensor, " batch"]) -> Coefficients:
        total = sigma**2 + self.sigma_data**2
        return Coefficients(
            self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4
        )

    def sigma(self, position: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return karras_sigmas(position, self.sigma_min, self.sigma_max, self.rho)

    def loss_weight(self, sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2


@dataclass(frozen=True)
class VariancePreserving:
    """A DDPM-type model with T discrete steps, seen through sigma = sqrt(1 - a) / sqrt(a), a = alphas_cumprod.

    Args:
        alphas_cumprod: product of alphas, falling, one a step.
        prediction: "epsilon", "v_prediction" (arXiv 2202.00512), or "sample": the network's output is the image itself.
    """

    alphas_cumprod: tuple[float, ...]
    prediction: Literal["epsilon", "v_prediction", "sample"]

    @property
    def table(self) -> Float[Tensor, " steps"]:
        """Noise level of every step, rising."""
        a = torch.tensor(self.alphas_cumprod, dtype=torch.float64)
        return ((1 - a) / a).sqrt()

    @property
    def sigma_min(self) -> float:
        return float(self.table[0])

    @property
    def sigma_max(self) -> float:
        return float(self.table[-1])

    def coefficients(self, sigma: Float[Tensor, " batch"]) -> Coefficients:
        c_in = 1 / (1 + sigma**2).sqrt()
        steps = torch.arange(len(self.alphas_cumprod), dtype=torch.float64)
        c_noise = interpolate(sigma.log(), self.table.log(), steps)
        if self.prediction == "epsilon":
            return Coefficients(torch.ones_like(sigma), -sigma, c_in, c_noise)
        if self.prediction == "sample":
            return Coefficients(torch.zeros_like(sigma), torch.ones_like(sigma), c_in, c_noise)
        return Coefficients(1 / (1 + sigma**2), -sigma * c_in, c_in, c_noise)

    def sigma(self, position: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        steps = torch.arange(len(self.alphas_cumprod), dtype=torch.float64)
        return interpolate(position * steps[-1], steps, self.table.log()).exp()

    def loss_weight(self, sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        if self.prediction == "sample":
            return torch.ones_like(sigma)
        return 1 / sigma**2 if self.prediction == "epsilon" else (1 + sigma**2) / sigma**2


def interpolate(
    x: Float[Tensor, " n"], known_x: Float[Tensor, " m"], known_y: Float[Tensor, " m"]
) -> Float[Tensor, " n"]:
    """Piecewise linear interpolation through rising `known_x`, constant beyond its ends, in x's dtype."""
    known_x, known_y = known_x.to(x.device), known_y.to(x.device)
    wide = x.to(known_x.dtype).clamp(known_x[0], known_x[-1])
    right = torch.searchsorted(known_x, wide).clamp(1, len(known_x) - 1)
    left = right - 1
    share = (wide - known_x[left]) / (known_x[right] - known_x[left])
    return (known_y[left] + share * (known_y[right] - known_y[left])).to(x.dtype)
