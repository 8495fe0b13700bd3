"""Networks of the method, and what a syntax must offer: encoder, decoder, likelihood. Nothing else knows about tables."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Sees = Literal["x", "x, s", "x, s, y"]


class Syntax(Protocol):
    """The exchangeable part: how rows of one kind of data are encoded, decoded and scored."""

    def encoder(self, latent: int, width: int, extra: int) -> nn.Module:
        """A network (x, extra inputs) -> 2 * latent numbers."""
        ...

    def decoder(self, latent: int, width: int, extra: int) -> nn.Module:
        """A network of (z, extra inputs) -> parameters of p(x | z, s)."""
        ...

    def nats(self, output: Tensor, x: Tensor) -> Float[Tensor, " n"]:
        """-log p(x | z, s) of each row."""
        ...

    def divergence(self, teacher: Tensor, student: Tensor) -> Float[Tensor, " n"]:
        """KL( p_T(x | z, s) || p_S(x | z, s) ) of each row."""
        ...

    def draw(self, output: Tensor) -> Tensor:
        """Rows drawn from p(x | z, s), by torch's global generator."""
        ...


def mlp(inputs: int, width: int, outputs: int, layers: int = 1) -> nn.Sequential:
    """Linear, ReLU, ... , Linear with `layers` hidden layers."""
    sizes = [inputs, *[width] * layers]
    hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))


class FairVAE(nn.Module):
    """q(z | x, s, y), p(x | z, s) and p(y | z): the label is decoded from z alone, so it can say of s no more than z does.

    Args:
        syntax: encoder, decoder and likelihood.
        groups, classes: how many sensitive groups and label classes there are.
        latent: dimensions of z.
        width: hidden width of all networks.
        sees: what the encoder reads beside x: nothing, s (the paper's), or s and the label.
    """

    def __init__(
        self, syntax: Syntax, groups: int, classes: int, latent: int, width: int, sees: Sees = "x, s, y"
    ) -> None:
        super().__init__()
        self.groups, self.classes, self.latent, self.sees = groups, classes, latent, sees
        self.encoder = syntax.encoder(latent, width, groups * ("s" in sees) + classes * ("y" in sees))
        self.decoder = syntax.decoder(latent, width, groups)
        self.label_head = mlp(latent, width, classes)

    def encode(self, x: Tensor, s: Int[Tensor, " n"], y: Int[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        """mu and log variance of q(z | what it sees), both (n, latent)."""
        seen = [("s", s, self.groups), ("y", y, self.classes)]
        known = [F.one_hot(values, size).to(x.dtype) for name, values, size in seen if name in self.sees]
        mu, logvar = self.encoder(x, torch.cat([x[:, :0], *known], 1)).chunk(2, 1)
        return mu, logvar.clamp(-10, 4)

    def decode(self, z: Float[Tensor, "n d"], s: Int[Tensor, " n"]) -> tuple[Tensor, Float[Tensor, "n classes"]]:
        """Parameters of p(x | z, s), and logits of p(y | z)."""
        return self.decoder(z, F.one_hot(s, self.groups).to(z.dtype)), self.label_head(z)


def sample_posterior(mu: Tensor, logvar: Tensor) -> Tensor:
    """z = mu + eps sqrt(v), eps by torch's global generator."""
    return at_noise(mu, logvar, torch.randn_like(mu))


def at_noise(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """z = mu + eps sqrt(v) for some eps."""
    return mu + eps * (0.5 * logvar).exp()


class Standardised(nn.Module):
    """A sampler's frame: works on latents of mean 0 and deviation 1, gives them back in their own units."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("deviation", torch.ones(latent))

    def learn(self, z: Float[Tensor, "n d"]) -> None:
        """Take mean and deviation from some latents."""
        self.mean.copy_(z.mean(0))
        self.deviation.copy_(z.std(0).clamp_min(1e-4))

    def inward(self, z: Tensor) -> Tensor:
        """To mean 0 and deviation 1."""
        return (z - self.mean) / self.deviation

    def outward(self, z: Tensor) -> Tensor:
        """Back."""
        return z * self.deviation + self.mean


class NoiseSampler(nn.Module):
    """z = G(n), n ~ N(0, I): latents in one pass (also the generator of the GAN baseline)."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.latent = latent
        self.frame = Standardised(latent)
        self.network = mlp(latent, width, latent, layers=2)

    def forward(self, noise: Float[Tensor, "n d"]) -> Tensor:
        """Latents in the frame: the noise and a correction."""
        return noise + self.network(noise)

    def sample(self, rows: int) -> Tensor:
        """Latents (rows, latent), by torch's global generator."""
        return self.frame.outward(self(torch.randn(rows, self.latent)))


class FlowSampler(nn.Module):
    """Rectified flow on latents: velocity(z_t, t), from noise at t = 0 to latents at t = 1, in `steps` midpoint steps."""

    def __init__(self, latent: int, width: int, steps: int = 10) -> None:
        super().__init__()
        self.latent, self.steps = latent, steps
        self.frame = Standardised(latent)
        self.network = mlp(latent + 3, width, latent, layers=2)

    def forward(self, z: Tensor, t: Float[Tensor, "n 1"]) -> Tensor:
        """Velocity at (z, t)."""
        return self.network(torch.cat([z, t, torch.sin(torch.pi * t), torch.cos(torch.pi * t)], 1))

    def loss(self, z: Tensor) -> Float[Tensor, ""]:
        """E | v(z_t, t) - (z - n) |^2 with z_t = (1 - t) n + t z."""
        target, noise = self.frame.inward(z), torch.randn_like(z)
        t = torch.rand(len(z), 1)
        return ((self((1 - t) * noise + t * target, t) - (target - noise)) ** 2).sum(1).mean()

    def sample(self, rows: int) -> Tensor:
        """Latents (rows, latent), by torch's global generator."""
        z, h = torch.randn(rows, self.latent), 1 / self.steps
        for i in range(self.steps):
            half = z + h / 2 * self(z, torch.full((rows, 1), i * h))
            z = z + h * self(half, torch.full((rows, 1), (i + 0.5) * h))
        return self.frame.outward(z)


class DiffusionSampler(nn.Module):
    """v-prediction diffusion on latents with the cosine schedule, drawn by DDIM: the FLDGM diffusion baseline."""

    def __init__(self, latent: int, width: int, steps: int = 50) -> None:
        super().__init__()
        self.latent, self.steps = latent, steps
        self.frame = Standardised(latent)
        self.network = mlp(latent + 3, width, latent, layers=2)

    def forward(self, z: Tensor, t: Float[Tensor, "n 1"]) -> Tensor:
        """v at (z_t, t)."""
        return self.network(torch.cat([z, t, torch.sin(torch.pi * t), torch.cos(torch.pi * t)], 1))

    def loss(self, z: Tensor) -> Float[Tensor, ""]:
        """E | v(z_t, t) - (a n - b z) |^2 with z_t = a z + b n, a = cos(pi t / 2), b = sin(pi t / 2)."""
        target, noise, t = self.frame.inward(z), torch.randn_like(z), torch.rand(len(z), 1)
        a, b = torch.cos(torch.pi * t / 2), torch.sin(torch.pi * t / 2)
        return ((self(a * target + b * noise, t) - (a * noise - b * target)) ** 2).sum(1).mean()

    def sample(self, rows: int) -> Tensor:
        """Latents (rows, latent), by torch's global generator."""
        z, angle = torch.randn(rows, self.latent), torch.pi / 2 / self.steps
        for i in range(self.steps, 0, -1):
            v = self(z, torch.full((rows, 1), i / self.steps))
            # DDIM in angles: z_{t - h} = cos(h) z_t - sin(h) v
            z = torch.cos(torch.tensor(angle)) * z - torch.sin(torch.tensor(angle)) * v
        return self.frame.outward(z)


LatentSampler = NoiseSampler | FlowSampler | DiffusionSampler


def parameters(*networks: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for network in networks for p in network.parameters())
