"""Samplers over a grid of noise levels, as flat functions of a denoiser.

`denoise(x, sigma)` takes x [batch, channels, height, width] and sigma [batch] and returns the estimate of the clean
image; see `guided`. Every sampler starts from standard normal noise, so two of them can be given the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from stillhouse.core.errors import UserError
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.preconditioning import Preconditioning, karras_sigmas

Images = Float[Tensor, "batch channels height width"]
Denoise = Callable[[Tensor, Tensor], Tensor]


def guided(denoiser: Denoiser, condition: Tensor | None, scale: float = 1.0) -> Denoise:
    """Classifier-free guidance (arXiv 2207.12598): D_null + scale (D_condition - D_null); one pass at scale 1.

    Raises:
        UserError: the scale is not 1 and the model has no null condition.
    """
    if scale == 1.0:
        return lambda x, sigma: denoiser(x, sigma, condition)
    if condition is None:
        raise UserError("an unconditional teacher cannot be guided", "use --guidance-scale 1")
    null = denoiser.null_like(condition)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        both = denoiser(torch.cat([x, x]), torch.cat([sigma, sigma]), torch.cat([null, condition]))
        without, with_condition = both.chunk(2)
        return without + scale * (with_condition - without)

    return denoise


def guided_passes(scale: float) -> int:
    """Network passes an image that `guided` takes at this scale."""
    return 1 if scale == 1.0 else 2


def sampling_sigmas(noise: Preconditioning, steps: int, rho: float = 7.0) -> list[float]:
    """The Karras grid from sigma_max to sigma_min, `steps` levels, and 0 (arXiv 2206.00364, eq. 5)."""
    position = torch.linspace(1, 0, steps, dtype=torch.float64) if steps > 1 else torch.ones(1, dtype=torch.float64)
    return [*karras_sigmas(position, noise.sigma_min, noise.sigma_max, rho).tolist(), 0.0]


def few_step_sigmas(noise: Preconditioning, steps: int, first: float) -> list[float]:
    """Levels at which a few-step student is called: evenly spaced on the model's own grid, from `first` down."""
    position = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1]
    own = noise.sigma(position).tolist()
    return [first, *(sigma for sigma in own[1:] if sigma < first)]


@torch.no_grad()
def euler(denoise: Denoise, noise: Images, sigmas: Sequence[float]) -> Images:
    """Euler steps of dx/dsigma = (x - D(x; sigma)) / sigma; in these coordinates this is DDIM (arXiv 2010.02502)."""
    x = sigmas[0] * noise
    for now, following in pairwise(sigmas):
        slope = (x - denoise(x, _level(x, now))) / now
        x = x + (following - now) * slope
    return x


@torch.no_grad()
def heun(denoise: Denoise, noise: Images, sigmas: Sequence[float]) -> Images:
    """EDM's deterministic second-order sampler (arXiv 2206.00364, algorithm 1): 2 steps - 1 passes."""
    x = sigmas[0] * noise
    for now, following in pairwise(sigmas):
        slope = (x - denoise(x, _level(x, now))) / now
        euler_x = x + (following - now) * slope
        if following > 0:
            end_slope = (euler_x - denoise(euler_x, _level(x, following))) / following
            euler_x = x + (following - now) * (slope + end_slope) / 2
        x = euler_x
    return x


@torch.no_grad()
def ddim(
    denoise: Denoise, noise: Images, sigmas: Sequence[float], eta: float, generator: torch.Generator | None = None
) -> Images:
    """DDIM with stochasticity `eta` (arXiv 2010.02502, eq. 12 and 16): 0 is `euler`, 1 is ancestral (DDPM)."""
    x = sigmas[0] * noise
    for now, following in pairwise(sigmas):
        denoised = denoise(x, _level(x, now))
        fresh = eta * following * max(0.0, 1 - following**2 / now**2) ** 0.5
        kept = max(0.0, following**2 - fresh**2) ** 0.5
        x = denoised + kept * (x - denoised) / now
        if fresh > 0:
            x = x + fresh * torch.randn(x.shape, generator=generator).to(x)
    return x


@torch.no_grad()
def stochastic_heun(
    denoise: Denoise,
    noise: Images,
    sigmas: Sequence[float],
    churn: float,
    generator: torch.Generator | None = None,
    noise_scale: float = 1.003,
) -> Images:
    """EDM's stochastic sampler (arXiv 2206.00364, algorithm 2) with noise added at every level."""
    x = sigmas[0] * noise
    gamma = min(churn / (len(sigmas) - 1), 2**0.5 - 1)
    for now, following in pairwise(sigmas):
        raised = now * (1 + gamma)
        fresh = noise_scale * torch.randn(x.shape, generator=generator).to(x)
        x = x + (raised**2 - now**2) ** 0.5 * fresh
        slope = (x - denoise(x, _level(x, raised))) / raised
        euler_x = x + (following - raised) * slope
        if following > 0:
            end_slope = (euler_x - denoise(euler_x, _level(x, following))) / following
            euler_x = x + (following - raised) * (slope + end_slope) / 2
        x = euler_x
    return x


def few_step(denoise: Denoise, noise: Sequence[Images], sigmas: Sequence[float]) -> Images:
    """A few-step student: denoise, add fresh noise at the next level, denoise again (DMD2, section 4.4).

    Args:
        noise: standard normal noise for every level in `sigmas`.
        sigmas: falling levels, the first where the student starts; one pass each.
    """
    clean = denoise(sigmas[0] * noise[0], _level(noise[0], sigmas[0]))
    for sigma, fresh in zip(sigmas[1:], noise[1:], strict=True):
        clean = denoise(clean + sigma * fresh, _level(clean, sigma))
    return clean


def _level(x: Images, sigma: float) -> Float[Tensor, " batch"]:
    return torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
