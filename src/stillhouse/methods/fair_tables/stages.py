"""Training: teacher, student, latent samplers. Each is one `fit` stage and sees training rows only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.core.training import Fitted, Stateful, fit
from stillhouse.methods.fair_tables.losses import (
    distance_covariance,
    energy_distance,
    kl_to_prior,
    quality_loss,
    relative_dependence,
    sliced_wasserstein,
    utility_loss,
)
from stillhouse.methods.fair_tables.networks import (
    DiffusionSampler,
    FairVAE,
    FlowSampler,
    NoiseSampler,
    Syntax,
    at_noise,
    mlp,
    sample_posterior,
)
from stillhouse.methods.fair_tables.table_syntax import label_divergence, label_nats

Made = TypeVar("Made")


@dataclass(frozen=True)
class Data:
    """Encoded rows: x, group numbers s, class numbers y."""

    x: Tensor
    s: Int[Tensor, " n"]
    y: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.s)

    def take(self, index: Tensor) -> Data:
        """Some of the rows."""
        return Data(self.x[index], self.s[index], self.y[index])

    def batch(self, size: int) -> Data:
        """`size` rows drawn with replacement by torch's global generator."""
        return self.take(torch.randint(len(self), (size,)))


@dataclass(frozen=True)
class Penalty:
    """How dependence of z on s is punished.

    Attributes:
        weight: beta.
        form: "relative" (scale-free, smoothed at `widths`) or "published" (n / batch times V^2).
        widths: smoothing widths of the relative form.
        rows: rows of training data, for the published form's factor.
        pairs: rows of a batch that are compared with one another.
        weights: what a row of group s and label y counts, (groups, classes); None is 1. See `losses.reweighing`.
    """

    weight: float
    form: str
    widths: tuple[float, ...]
    rows: int
    pairs: int = 256
    weights: Float[Tensor, "groups classes"] | None = None

    def __call__(self, mu: Tensor, logvar: Tensor, s: Tensor, y: Tensor) -> Float[Tensor, ""]:
        """The weighted penalty."""
        if self.weight == 0:
            return mu.new_zeros(())
        mu, logvar, s, y = mu[: self.pairs], logvar[: self.pairs], s[: self.pairs], y[: self.pairs]
        counts = None if self.weights is None else self.weights[s, y]
        if self.form == "published":
            return self.weight * self.rows / len(mu) * distance_covariance(mu, logvar, s, counts)
        return self.weight * relative_dependence(mu, logvar, s, self.widths, counts)


@dataclass(frozen=True)
class TeacherLoss:
    """Weights of the teacher's loss; a KL weight below 1 lets z hold more, a sampler of its own fits what z becomes."""

    label: float
    kl: float
    penalty: Penalty


@dataclass(frozen=True)
class Plan:
    """How long and how fast a stage trains."""

    updates: int
    batch: int
    rate: float


def anneal(optimizer: torch.optim.Optimizer, plan: Plan, update: int) -> None:
    """Cosine from the plan's rate to a tenth of it, a function of the update alone."""
    share = 0.55 + 0.45 * math.cos(math.pi * update / plan.updates)
    for group in optimizer.param_groups:
        group["lr"] = plan.rate * share


def train_teacher(
    model: FairVAE, syntax: Syntax, data: Data, loss: TeacherLoss, plan: Plan, run: Run, stage: str
) -> Fitted:
    """L_teacher = -log p(x | z, s) - label log p(y | z) + kl KL( q || N(0, I) ) + beta V^2(Z, S)."""
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.rate)

    def step(update: int) -> dict[str, Tensor]:
        anneal(optimizer, plan, update)
        rows = data.batch(plan.batch)
        mu, logvar = model.encode(rows.x, rows.s, rows.y)
        output, logits = model.decode(sample_posterior(mu, logvar), rows.s)
        reconstruction = syntax.nats(output, rows.x).mean() + loss.label * label_nats(logits, rows.y).mean()
        divergence, unfair = kl_to_prior(mu, logvar), loss.penalty(mu, logvar, rows.s, rows.y)
        descend(optimizer, reconstruction + loss.kl * divergence + unfair)
        return {"reconstruction": reconstruction, "kl": divergence, "penalty": unfair}

    return fit(step, {"model": model, "optimizer": optimizer}, plan.updates, run, stage=stage)


@dataclass(frozen=True)
class StudentLoss:
    """Weights of L = quality * L_quality + utility * L_utility + beta' V^2(Z_S, S)."""

    quality: float
    utility: float
    penalty: Penalty

    def without(self, part: str) -> StudentLoss:
        """The same with one part left out (ablations): "quality", "utility" or "fairness"."""
        if part == "fairness":
            return replace(self, penalty=replace(self.penalty, weight=0.0))
        return replace(self, quality=0.0) if part == "quality" else replace(self, utility=0.0)


def distil_student(
    student: FairVAE, teacher: FairVAE, syntax: Syntax, data: Data, loss: StudentLoss, plan: Plan, run: Run, stage: str
) -> Fitted:
    """The student's encoder is matched to the teacher's in latent space, its decoder to the teacher's distributions.

    Both read the same noise, so that the student's z stands for the teacher's; the decoder reads detached student
    latents, so that the representation answers to the three losses alone.
    """
    optimizer = torch.optim.Adam(student.parameters(), lr=plan.rate)

    def step(update: int) -> dict[str, Tensor]:
        anneal(optimizer, plan, update)
        rows = data.batch(plan.batch)
        with torch.no_grad():
            mu_t, logvar_t = teacher.encode(rows.x, rows.s, rows.y)
        mu, logvar = student.encode(rows.x, rows.s, rows.y)
        quality, utility = quality_loss(mu_t, mu), utility_loss(mu_t, logvar_t, mu, logvar)
        unfair = loss.penalty(mu, logvar, rows.s, rows.y)
        noise = torch.randn_like(mu_t)
        z_t, z = at_noise(mu_t, logvar_t, noise), at_noise(mu, logvar, noise).detach()
        made = as_generated(student, teacher, syntax, z, z_t, rows.s)
        output, logits = student.decode(z, rows.s)
        own = (syntax.nats(output, rows.x) + label_nats(logits, rows.y)).mean()
        decoder = 0.5 * (made + own)
        descend(optimizer, loss.quality * quality + loss.utility * utility + unfair + decoder)
        return {"quality": quality, "utility": utility, "penalty": unfair, "as_generated": made, "own": own}

    return fit(step, {"model": student, "optimizer": optimizer}, plan.updates, run, stage=stage)


def as_generated(
    student: FairVAE, teacher: FairVAE, syntax: Syntax, z: Tensor, z_t: Tensor, s: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Mean KL(p_T(x, y | z_T, s') || p_S(x, y | z_S, s')) with s' independent of z, as rows are generated.

    Encoded rows show the student z and s only as they occur together. Where they depend on each other, a student that
    learns from these pairs alone never sees the others, and what it makes of them carries the group into the rows.

    Args:
        z, z_t: latents of the same rows under student and teacher, shape (n, latent).
        s: the rows' groups; s' is a random order of them.
    """
    drawn = s[torch.randperm(len(s))]
    with torch.no_grad():
        output_t, logits_t = teacher.decode(z_t, drawn)
    output, logits = student.decode(z, drawn)
    return (syntax.divergence(output_t, output) + label_divergence(logits_t, logits)).mean()


def train_by_loss(
    sampler: FlowSampler | DiffusionSampler, model: FairVAE, data: Data, plan: Plan, run: Run, stage: str
) -> Fitted:
    """A flow or diffusion on the latents of training rows."""
    known = learn_frame(sampler, model, data, run, stage)
    optimizer = torch.optim.Adam(sampler.network.parameters(), lr=plan.rate)

    def step(update: int) -> dict[str, Tensor]:
        anneal(optimizer, plan, update)
        loss = sampler.loss(known.batch(plan.batch))
        descend(optimizer, loss)
        return {"loss": loss}

    return fit(step, {"sampler": sampler, "optimizer": optimizer}, plan.updates, run, stage=stage)


def train_noise_sampler(sampler: NoiseSampler, model: FairVAE, data: Data, plan: Plan, run: Run, stage: str) -> Fitted:
    """Noise to latents, matched in distribution: sliced Wasserstein plus energy distance between batches.

    A pointwise loss between G(n) and the latents of unrelated rows is least at their mean, so none is used.
    """
    known = learn_frame(sampler, model, data, run, stage)
    optimizer = torch.optim.Adam(sampler.network.parameters(), lr=plan.rate)

    def step(update: int) -> dict[str, Tensor]:
        anneal(optimizer, plan, update)
        real = sampler.frame.inward(known.batch(plan.batch))
        fake = sampler(torch.randn(plan.batch, sampler.latent))
        directions = nn.functional.normalize(torch.randn(sampler.latent, 64), dim=0)
        sliced, energy = sliced_wasserstein(fake, real, directions), energy_distance(fake, real)
        descend(optimizer, 10 * sliced + energy)
        return {"sliced": sliced, "energy": energy}

    return fit(step, {"sampler": sampler, "optimizer": optimizer}, plan.updates, run, stage=stage)


def train_gan(generator: NoiseSampler, model: FairVAE, data: Data, plan: Plan, run: Run, stage: str) -> Fitted:
    """WGAN-GP on the latents of training rows (FLDGM's generator): five critic updates for one of the generator."""
    known = learn_frame(generator, model, data, run, stage)
    critic = seeded(run.seed, f"{stage}-critic", lambda: mlp(generator.latent, 128, 1, layers=2))
    of_generator = torch.optim.Adam(generator.network.parameters(), lr=plan.rate, betas=(0.5, 0.9))
    of_critic = torch.optim.Adam(critic.parameters(), lr=plan.rate, betas=(0.5, 0.9))

    def step(update: int) -> dict[str, Tensor]:
        real = generator.frame.inward(known.batch(plan.batch))
        fake = generator(torch.randn(plan.batch, generator.latent))
        if update % 6 < 5:
            return {"critic": critic_update(critic, of_critic, real, fake.detach())}
        loss = -critic(fake).mean()
        descend(of_generator, loss)
        return {"generator": loss}

    state: dict[str, Stateful] = {
        "generator": generator,
        "critic": critic,
        "of_generator": of_generator,
        "of_critic": of_critic,
    }
    return fit(step, state, plan.updates, run, stage=stage)


def critic_update(
    critic: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, real: Tensor, fake: Tensor
) -> Float[Tensor, ""]:
    """One critic update of WGAN-GP: E D(fake) - E D(real) + 10 (|grad D| - 1)^2 between them."""
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    loss = critic(fake).mean() - critic(real).mean() + 10 * ((gradient.norm(dim=1) - 1) ** 2).mean()
    descend(optimizer, loss)
    return loss.detach()


@dataclass(frozen=True)
class Posteriors:
    """q(z | x, s, y) of the training rows, encoded once for a sampler's whole training."""

    mu: Float[Tensor, "n d"]
    logvar: Float[Tensor, "n d"]

    def batch(self, size: int) -> Float[Tensor, "size d"]:
        """z of `size` rows drawn with replacement, by torch's global generator."""
        rows = torch.randint(len(self.mu), (size,))
        return sample_posterior(self.mu[rows], self.logvar[rows])


def learn_frame(
    sampler: NoiseSampler | FlowSampler | DiffusionSampler, model: FairVAE, data: Data, run: Run, stage: str
) -> Posteriors:
    """Give a sampler the mean and deviation of the training rows' latents; returns their posteriors."""
    known = posteriors(model, data)
    sampler.frame.learn(seeded(run.seed, f"{stage}-frame", lambda: sample_posterior(known.mu, known.logvar)))
    return known


@torch.no_grad()
def posteriors(model: FairVAE, data: Data) -> Posteriors:
    """The rows' posteriors, encoded a block at a time."""
    parts = [model.encode(*block) for block in zip(*(t.split(4096) for t in (data.x, data.s, data.y)), strict=True)]
    return Posteriors(torch.cat([mu for mu, _ in parts]), torch.cat([logvar for _, logvar in parts]))


def seeded(seed: int, name: str, make: Callable[[], Made]) -> Made:
    """`make()` under random numbers that depend on seed and name alone, so that a resumed run makes the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, name))
        return make()


@torch.no_grad()
def latents(model: FairVAE, data: Data) -> Float[Tensor, "n d"]:
    """z drawn from the posteriors of some rows, by torch's global generator."""
    known = posteriors(model, data)
    return sample_posterior(known.mu, known.logvar)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One optimizer step down `loss`."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
