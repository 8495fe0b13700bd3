"""Gaussian images, whose scores are known exactly: data N(mean, scale^2) has D(x; s) = (scale^2 x + s^2 mean) / (scale^2 + s^2)."""

import torch
from torch import nn

from stillhouse.diffusion.preconditioning import Edm

SHAPE = (1, 2, 2)


class GaussianDenoiser(nn.Module):
    """The exact denoiser of N(mean, scale^2); counts its passes."""

    def __init__(self, mean, scale, preconditioning=None):
        super().__init__()
        self.mean, self.scale = mean, scale
        self.preconditioning = preconditioning or Edm()
        self.sample_shape = SHAPE
        self.passes = 0

    def forward(self, x, sigma, condition=None):
        self.passes += len(x)
        s2 = sigma[:, None, None, None] ** 2
        return (self.scale**2 * x + s2 * self.mean) / (self.scale**2 + s2)


class AffineStudent(nn.Module):
    """G(x; s) = shift + gain x / s: from noise at level s it makes N(shift, gain^2)."""

    def __init__(self, shift, gain=1.0):
        super().__init__()
        self.shift, self.gain = nn.Parameter(torch.tensor(float(shift))), nn.Parameter(torch.tensor(float(gain)))
        self.preconditioning = Edm()
        self.sample_shape = SHAPE

    def forward(self, x, sigma, condition=None):
        return self.shift + self.gain * x / sigma[:, None, None, None]
