"""What the method has to beat that is not a variant of itself: TabFairGAN-style, marginals only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from stillhouse.core.run import Run
from stillhouse.core.training import Fitted, Stateful, fit
from stillhouse.methods.fair_tables.networks import mlp
from stillhouse.methods.fair_tables.stages import Data, Plan, critic_update, descend, seeded
from stillhouse.tables.codec import Block


class TabFairGAN(nn.Module):
    """A WGAN-GP of whole rows (features, group, label) with softmax blocks, after arXiv 2109.00666.

    The group and the label are two more one-hot blocks at the end of a row.
    """

    def __init__(self, blocks: tuple[Block, ...], groups: int, classes: int, width: int, noise: int = 32) -> None:
        super().__init__()
        self.noise, self.groups, self.classes = noise, groups, classes
        sizes = [(block.levels, block.continuous) for block in blocks]
        self.sizes = [*sizes, (groups, False), (classes, False)]
        self.width = sum(levels + continuous for levels, continuous in self.sizes)
        self.network = mlp(noise, width, self.width, layers=2)

    def forward(self, noise: Tensor) -> Float[Tensor, "n width"]:
        """Soft rows: Gumbel-softmax of temperature 0.2 for levels, plain numbers."""
        parts = self.network(noise).split([levels + continuous for levels, continuous in self.sizes], 1)
        done = []
        for part, (levels, _) in zip(parts, self.sizes, strict=True):
            done += [F.gumbel_softmax(part[:, :levels], 0.2)] if levels else []
            done += [part[:, levels:]]
        return torch.cat(done, 1)

    def sample(self, rows: int) -> Data:
        """Hard rows."""
        soft = self(torch.randn(rows, self.noise))
        hard = torch.cat([part for piece in self._pieces(soft) for part in piece], 1)
        s, y = self.split_group_and_label(hard)
        return Data(hard[:, : self.width - self.groups - self.classes], s.argmax(1), y.argmax(1))

    def _pieces(self, soft: Tensor) -> list[list[Tensor]]:
        pieces = []
        parts = soft.split([levels + continuous for levels, continuous in self.sizes], 1)
        for part, (levels, continuous) in zip(parts, self.sizes, strict=True):
            hot = F.one_hot(part[:, :levels].argmax(1), levels).float() if levels else part[:, :0]
            open_gate = hot[:, -1:] if levels else 1.0
            pieces.append([hot, part[:, levels:] * open_gate] if continuous else [hot])
        return pieces

    def split_group_and_label(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The group's and the label's places of rows."""
        return rows[:, -self.groups - self.classes : -self.classes], rows[:, -self.classes :]


def train_tabfairgan(
    generator: TabFairGAN, data: Data, positive: tuple[int, ...], fairness: float, plan: Plan, run: Run, stage: str
) -> Fitted:
    """WGAN-GP, and in the last fifth of the updates also lambda sum_s |P(y+ | s) - P(y+)| for the generator."""
    critic = seeded(run.seed, f"{stage}-critic", lambda: mlp(generator.width, 256, 1, layers=2))
    of_generator = torch.optim.Adam(generator.parameters(), lr=plan.rate, betas=(0.5, 0.9))
    of_critic = torch.optim.Adam(critic.parameters(), lr=plan.rate, betas=(0.5, 0.9))
    places = list(positive)

    def step(update: int) -> dict[str, Tensor]:
        fake = generator(torch.randn(plan.batch, generator.noise))
        if update % 4 < 3:
            rows = data.batch(plan.batch)
            real = join(rows, generator.groups, generator.classes)
            return {"critic": critic_update(critic, of_critic, real, fake.detach())}
        s, y = generator.split_group_and_label(fake)
        unfair = parity_gap(s, y[:, places].sum(1)) if update > 0.8 * plan.updates else fake.new_zeros(())
        loss = -critic(fake).mean() + fairness * unfair
        descend(of_generator, loss)
        return {"generator": loss, "parity_gap": unfair}

    state: dict[str, Stateful] = {
        "generator": generator,
        "critic": critic,
        "of_generator": of_generator,
        "of_critic": of_critic,
    }
    return fit(step, state, plan.updates, run, stage=stage)


def join(rows: Data, groups: int, classes: int) -> Tensor:
    """Features, one-hot group and one-hot label side by side."""
    return torch.cat([rows.x, F.one_hot(rows.s, groups), F.one_hot(rows.y, classes)], 1)


def parity_gap(s: Float[Tensor, "n groups"], chosen: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """sum_s |P(y+ | s) - P(y+)| of soft groups and soft labels."""
    rates = (s * chosen[:, None]).sum(0) / s.sum(0).clamp_min(1e-6)
    return (rates - chosen.mean()).abs().sum()


def sample_marginals(data: Data, blocks: tuple[Block, ...], rows: int) -> Data:
    """Every column, the group and the label drawn by itself from training rows, by torch's global generator."""

    def pick() -> Int[Tensor, " n"]:
        return torch.randint(len(data), (rows,))

    x = torch.cat([data.x[pick(), block.start : block.start + block.width] for block in blocks], 1)
    return Data(x, data.s[pick()], data.y[pick()])
