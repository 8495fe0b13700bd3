"""The losses of score distillation, a function an equation. x is an image batch [batch, channels, height, width].

grad KL(p_fake || p_real) = E[ w (D_fake(x_t) - D_real(x_t)) dx/dtheta ]: the student is moved where the teacher's
denoised image is, seen from where a critic of the student's own samples would put it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

Images = Float[Tensor, "batch channels height width"]


def matching_gradient(x: Images, denoised_fake: Images, denoised_real: Images) -> Images:
    """(D_fake - D_real) / mean|x - D_real|, the mean over each image (DMD2 eq. 1 with DMD eq. 8's weight).

    Args:
        x: the student's clean images.
        denoised_fake, denoised_real: both scores' denoised images of the same noised x.
    """
    scale = (x - denoised_real).abs().mean(dim=(1, 2, 3), keepdim=True)
    return torch.nan_to_num((denoised_fake - denoised_real) / scale)


def plain_matching_gradient(x: Images, denoised_fake: Images, denoised_real: Images) -> Images:
    """D_fake - D_real with weight 1 (Diff-Instruct, arXiv 2305.18455, eq. 3.4 with its released weight)."""
    return denoised_fake - denoised_real


def stop_gradient_loss(x: Images, gradient: Images) -> Float[Tensor, ""]:
    """0.5 mean (x - sg(x - g))^2: a loss whose gradient with respect to x is exactly g / N, N numbers in x."""
    return 0.5 * (x - (x - gradient).detach()).square().mean()


def denoising_loss(denoised: Images, clean: Images, weight: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """mean w(sigma) (D(x_t; sigma) - x)^2, denoising score matching (arXiv 2206.00364, eq. 2)."""
    return (weight[:, None, None, None] * (denoised - clean).square()).mean()


def generator_gan_loss(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """softplus(-D(fake)), the non-saturating generator loss (DMD2 eq. 4)."""
    return softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """softplus(D(fake)) + softplus(-D(real)) (DMD2 eq. 4)."""
    return softplus(fake_logits).mean() + softplus(-real_logits).mean()
