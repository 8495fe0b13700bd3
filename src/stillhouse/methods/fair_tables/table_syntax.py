"""Mixed-type rows: the encoder, decoder and likelihood of a table."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stillhouse.methods.fair_tables.networks import mlp
from stillhouse.tables.codec import Block

LOG_DEVIATION = (-4.0, 1.5)
"""A continuous value's log standard deviation stays inside, or a repeated value makes the likelihood infinite."""


class _Joined(nn.Module):
    """An MLP of two inputs side by side."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.network = mlp(inputs, width, outputs, layers=2)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.network(torch.cat([one, other], 1))


class TableSyntax:
    """p(x | z, s) = prod over columns: softmax over levels; a gate over atoms, and a Gaussian where the gate is open.

    The decoder's output holds, per block, its logits and (mean, log deviation) of its normal score.
    """

    def __init__(self, blocks: tuple[Block, ...]) -> None:
        self.blocks = blocks
        self.width = sum(block.width for block in blocks)
        sizes = [block.levels + 2 * block.continuous for block in blocks]
        self.sizes, self.outputs = sizes, sum(sizes)

    def encoder(self, latent: int, width: int, extra: int) -> nn.Module:
        """[x, s, y] -> width -> width -> (mu, log variance)."""
        return _Joined(self.width + extra, width, 2 * latent)

    def decoder(self, latent: int, width: int, extra: int) -> nn.Module:
        """[z, s] -> width -> width -> logits, means, log deviations."""
        return _Joined(latent + extra, width, self.outputs)

    def nats(self, output: Tensor, x: Tensor) -> Float[Tensor, " n"]:
        """-log p(x | z, s) of each row, summed over columns."""
        total = x.new_zeros(len(x))
        for block, part in zip(self.blocks, output.split(self.sizes, 1), strict=True):
            hot = x[:, block.start : block.number]
            if block.levels:
                total = total - (hot * part[:, : block.levels].log_softmax(1)).sum(1)
            if block.continuous:
                open_gate = hot[:, -1] if block.levels else 1.0
                total = total + open_gate * _gaussian_nats(part[:, block.levels :], x[:, block.number])
        return total

    def divergence(self, teacher: Tensor, student: Tensor) -> Float[Tensor, " n"]:
        """KL of each row's decoded distributions, summed over columns."""
        total = teacher.new_zeros(len(teacher))
        for block, t, s in zip(self.blocks, teacher.split(self.sizes, 1), student.split(self.sizes, 1), strict=True):
            open_gate: Tensor | float = 1.0
            if block.levels:
                log_p = t[:, : block.levels].log_softmax(1)
                total = total + (log_p.exp() * (log_p - s[:, : block.levels].log_softmax(1))).sum(1)
                open_gate = log_p[:, -1].exp()
            if block.continuous:
                total = total + open_gate * _gaussian_divergence(t[:, block.levels :], s[:, block.levels :])
        return total

    def draw(self, output: Tensor) -> Tensor:
        """Rows from p(x | z, s): Gumbel-argmax for levels and gates, then the number where the gate is open."""
        x = output.new_zeros(len(output), self.width)
        for block, part in zip(self.blocks, output.split(self.sizes, 1), strict=True):
            open_gate: Tensor | float = 1.0
            if block.levels:
                logits = part[:, : block.levels]
                chosen = (logits - torch.empty_like(logits).exponential_().log()).argmax(1)
                x[torch.arange(len(x)), block.start + chosen] = 1
                open_gate = (chosen == block.levels - 1).to(x.dtype)
            if block.continuous:
                mean, log_deviation = _gaussian(part[:, block.levels :])
                x[:, block.number] = open_gate * (mean + log_deviation.exp() * torch.randn_like(mean))
        return x


def _gaussian(part: Float[Tensor, "n 2"]) -> tuple[Tensor, Tensor]:
    return part[:, 0], part[:, 1].clamp(*LOG_DEVIATION)


def _gaussian_nats(part: Tensor, x: Tensor) -> Tensor:
    mean, log_deviation = _gaussian(part)
    return log_deviation + 0.5 * math.log(2 * math.pi) + 0.5 * ((x - mean) / log_deviation.exp()) ** 2


def _gaussian_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    (mean_t, log_t), (mean_s, log_s) = _gaussian(teacher), _gaussian(student)
    return log_s - log_t + 0.5 * ((2 * (log_t - log_s)).exp() + ((mean_t - mean_s) / log_s.exp()) ** 2 - 1)


def label_divergence(teacher: Tensor, student: Tensor) -> Float[Tensor, " n"]:
    """KL of the label distributions of each row, from logits."""
    log_p = teacher.log_softmax(1)
    return (log_p.exp() * (log_p - student.log_softmax(1))).sum(1)


def label_nats(logits: Tensor, y: Tensor) -> Float[Tensor, " n"]:
    """-log p(y | z) of each row."""
    return F.cross_entropy(logits, y, reduction="none")
