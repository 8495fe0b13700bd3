"""What a student is compared with: the same architecture distilled alone, and what one would have designed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stillhouse.core.run import Run
from stillhouse.encoders.costs import Architecture, multiply_adds
from stillhouse.encoders.elastic import ElasticBert, extent_of
from stillhouse.methods.autodistil.config import Config
from stillhouse.methods.autodistil.lesson import Lesson, Teacher
from stillhouse.methods.autodistil.superlm import new_network, recipe_of, train

ALONE = "the same architecture, distilled alone"
UNTRAINED = "the same architecture, cut from the teacher"


@dataclass(frozen=True, eq=False)
class Peer:
    """A network of one architecture."""

    network: ElasticBert
    shape: Architecture
    seconds: float
    updates: int


def hand_designed(teacher: Architecture, budget: int, relation_heads: int) -> dict[str, Architecture]:
    """The largest architectures within `budget` multiply-adds by three rules of thumb; a rule that finds none is left out.

    Every other layer: full width, layers taken evenly (DistilBERT). All layers: full depth, narrower. Half the layers: as
    wide as then fits. Heads stay about as wide as the teacher's, feed-forward as many times the width.
    """
    wide = [Architecture(n, teacher.heads, teacher.hidden, teacher.feed_forward) for n in range(1, teacher.layers)]
    widths = range(relation_heads, teacher.hidden, relation_heads)
    half = max(1, teacher.layers // 2)
    rules = {
        "by hand: full width, fewer layers": wide,
        "by hand: all layers, narrower": [narrowed(teacher, teacher.layers, h) for h in widths],
        "by hand: half the layers, narrower": [narrowed(teacher, half, h) for h in widths],
    }
    found = {}
    for name, shapes in rules.items():
        within = [shape for shape in shapes if multiply_adds(shape) <= budget]
        if within:
            found[name] = max(within, key=multiply_adds)
    return found


def narrowed(teacher: Architecture, layers: int, hidden: int) -> Architecture:
    """The teacher's proportions at another depth and width; of the numbers of heads that divide it the nearest."""
    wanted = hidden / teacher.head_width
    heads = min((a for a in range(1, teacher.heads + 1) if hidden % a == 0), key=lambda a: (abs(a - wanted), a))
    return Architecture(layers, heads, hidden, hidden * teacher.feed_forward // teacher.hidden)


def cut_from_teacher(shape: Architecture, teacher: Teacher, config: Config) -> ElasticBert:
    """A network of one architecture with its first weights."""
    return new_network(teacher, extent_of([shape], teacher.shape.layers), config.init, config.seed, str(shape)).eval()


def distilled_alone(
    shape: Architecture, lesson: Lesson, config: Config, run: Run, stage: str, updates: int = 0
) -> Peer:
    """One architecture with weights of its own, trained as super-networks are."""
    network = cut_from_teacher(shape, lesson.teacher, config)
    recipe = recipe_of(config, updates)
    fitted = train(network, lambda _: [shape], lesson, config, recipe, run, stage)
    return Peer(network.eval(), shape, fitted.seconds, fitted.updates)


def peers(picked: Architecture, budget: int, lesson: Lesson, config: Config, run: Run) -> Mapping[str, Peer]:
    """All that the picked student is compared with, distilled with as many updates as a super-network."""
    wanted = {ALONE: picked, **hand_designed(lesson.teacher.shape, budget, lesson.relation_heads)}
    made = {}
    for name, shape in wanted.items():
        run.log(f"arm: {name} ({shape})")
        made[name] = distilled_alone(shape, lesson, config, run, name.replace(": ", " "))
    return made
