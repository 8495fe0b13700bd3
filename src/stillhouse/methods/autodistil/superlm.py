"""Training super-networks: the sandwich step of section 3.2, and single architectures the same way for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.core.training import Fitted, Stateful, fit
from stillhouse.encoders.batches import Schedule
from stillhouse.encoders.costs import Architecture
from stillhouse.encoders.elastic import ElasticBert, Extent
from stillhouse.encoders.models import best_device
from stillhouse.encoders.rewiring import inherit_from
from stillhouse.encoders.training import Recipe, make_optimizer, set_rate
from stillhouse.methods.autodistil.config import Config
from stillhouse.methods.autodistil.lesson import Lesson, Teacher, tables_of
from stillhouse.methods.autodistil.spaces import SubSpace, sandwich

WARMUP = 0.06
"""Share of the updates in which the rate rises (released code)."""


@dataclass(frozen=True, eq=False)
class SuperLM:
    """A sub-space and its trained super-network."""

    space: SubSpace
    network: ElasticBert
    seconds: float
    updates: int


def new_network(teacher: Teacher, extent: Extent, init: str, seed: int, name: str) -> ElasticBert:
    """A super-network with its first weights.

    Raises:
        UserError: it is to begin as the teacher and is larger.
    """
    seed_everything("super-network", seed, name)
    config = teacher.model.config
    network = ElasticBert(extent, tables_of(teacher), teacher.pad_id, config.hidden_act, config.layer_norm_eps)
    if init == "teacher":
        inherit_from(network, teacher.model)
    return network.to(best_device())


def recipe_of(config: Config, updates: int = 0) -> Recipe:
    """How every network of a run is trained; `updates` 0 is the config's."""
    return Recipe(updates or config.updates, config.batch, config.rate, weight_decay=0.01, warmup=WARMUP)


def train_superlm(space: SubSpace, lesson: Lesson, config: Config, run: Run) -> SuperLM:
    """The super-network of a sub-space, trained by the sandwich rule."""
    teacher = lesson.teacher
    network = new_network(teacher, space.extent(teacher.shape.layers), config.init, config.seed, space.name)

    def shapes(update: int) -> list[Architecture]:
        return sandwich(space, config.seed, update, config.random_samples)

    fitted = train(network, shapes, lesson, config, recipe_of(config), run, f"super-network {space.name}")
    return SuperLM(space, network.eval(), fitted.seconds, fitted.updates)


def train(
    network: ElasticBert,
    shapes: Callable[[int], Sequence[Architecture]],
    lesson: Lesson,
    config: Config,
    recipe: Recipe,
    run: Run,
    stage: str,
) -> Fitted:
    """Each update: the mean relation loss of its architectures on one batch, gradients added up, one optimizer step.

    The mean, where the released code adds: a clip at norm 1 then treats one architecture and a sandwich alike.
    """
    network.words.requires_grad_(config.train_words)
    learned = [p for p in network.parameters() if p.requires_grad]
    optimizer = make_optimizer(network, recipe.rate, recipe.weight_decay)
    schedule = Schedule(lesson.items.lengths, recipe.batch, derive_seed("lesson", config.seed))
    device = network.words.device

    def step(update: int) -> dict[str, Tensor]:
        network.train()
        batch, theirs = lesson.batch(schedule[update], device)
        optimizer.zero_grad()
        chosen, losses = shapes(update), []
        for shape in chosen:
            loss = lesson.loss(network, shape, batch, theirs)
            (loss / len(chosen)).backward()
            losses.append(loss.detach())
        nn.utils.clip_grad_norm_(learned, 1.0)
        set_rate(optimizer, recipe.rate * recipe.factor(update))
        optimizer.step()
        return {"relations": torch.stack(losses).mean()}

    state: dict[str, Stateful] = {"network": Trained(network), "optimizer": optimizer}
    return fit(step, state, recipe.updates, run, stage=stage, seed=config.seed)


class Trained:
    """The part of a network that is trained, for checkpoints: word vectors that stay the teacher's are most of it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.network.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        parameters = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        if parameters.keys() != state_dict.keys():
            raise KeyError("other weights are trained")
        for name, parameter in parameters.items():
            parameter.copy_(state_dict[name])
