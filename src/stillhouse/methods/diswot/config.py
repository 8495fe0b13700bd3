"""Options of DisWOT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillhouse.core.errors import require
from stillhouse.methods.diswot.distillers import LOSSES
from stillhouse.methods.diswot.scoring import Setting


@dataclass(frozen=True)
class Config:
    """Find the best student for a teacher without training one, and distil it."""

    data: str = "mnist-5k"
    """mnist-5k, digits, fashion-mnist, mnist, cifar10, a folder with a subfolder for each class, or an .npz file."""
    size: int = 16
    """Side that images are resized to; 0 keeps theirs."""
    images: int = 0
    """At most this many training images; 0 takes all."""
    teacher: str = "train"
    """train, a folder with network.json and network.safetensors, a transformers image classifier's folder, or resnet56-cifar10 (20, 32, 44 too)."""
    teacher_blocks: int = 3
    """Blocks a stage of the ResNet that is trained as teacher."""
    teacher_width: int = 16
    """Width of its first stage."""
    space: str = "mobilenets"
    """mobilenets, cells, resnets, or your own as package.module:function(channels, classes, *, option: Literal[...])."""
    scores: tuple[str, ...] = ("nwot", "channel_uniformity", "live_macs")
    """Parts of the score, summed by rank; "diswot" alone is the published one."""
    draws: int = 2
    """Draws of random weights and images; the report shows the spread over them."""
    batch: int = 64
    """Images of a draw, as even over the classes as possible."""
    initialisation: Literal["kaiming", "gaussian", "default"] = "kaiming"
    """Random weights to score with; gaussian is the published N(0, 1)."""
    head_deviation: float = 0.0
    """Deviation of the classifier's random weights; 0 takes the initialisation's."""
    teacher_state: Literal["random", "trained", "permuted", "noise"] = "random"
    """How scores see the teacher: with random weights (published), as trained, or as a control without information."""
    teacher_map: str = ""
    """Module whose output is the teacher's last map; found if empty."""
    student_map: str = ""
    """The same for students."""
    max_parameters: int = 0
    """Bound on a student's parameters; 0 is none."""
    max_macs: int = 800_000
    """Bound on its multiply-accumulates an image; 0 is none."""
    max_latency_ms: float = 0.0
    """Bound on its measured milliseconds for one image on one thread of this machine; 0 is none."""
    strategy: Literal["evolution", "random"] = "evolution"
    """How networks are proposed."""
    evaluations: int = 128
    """Networks that are scored."""
    population: int = 36
    """The youngest networks that parents are taken from."""
    tournament: int = 8
    """Networks that compete to be a parent."""
    crossover: float = 0.3
    """Share of children with two parents."""
    workers: int = 1
    """Processes that score; what is found is the same."""
    train: bool = True
    """Distil the found student; without it, the search alone."""
    compare: bool = True
    """Also train it without the teacher, and distil a random and the largest student under the bound."""
    losses: tuple[str, ...] = ("kd",)
    """Distillers, summed: kd, relation and semantic (the paper's), ickd, fitnet, attention, contrastive."""
    updates: int = 300
    """Optimizer updates of every student."""
    teacher_updates: int = 300
    """Optimizer updates of a teacher that is trained."""
    train_batch: int = 64
    """Images of an update."""
    learning_rate: float = 0.05
    """Highest learning rate of SGD with momentum."""
    shift: int = 1
    """Training images are moved by up to this many pixels."""
    mirror: bool = False
    """Half of the training images are mirrored."""
    seed: int = 0
    """Seed of weights, batches and the search; the split of the data is the same for all seeds."""

    def __post_init__(self) -> None:
        counts = (self.draws, self.evaluations, self.population, self.tournament, self.workers, self.updates)
        require(
            min(counts) >= 1,
            "draws, evaluations, population, tournament, workers or updates below 1",
            "give one or more",
        )
        require(self.batch >= 4, f"batch is {self.batch}", "scores compare samples: give 4 or more")
        require(
            min(self.max_parameters, self.max_macs, self.max_latency_ms) >= 0, "a bound is negative", "give 0 for none"
        )
        require(0 <= self.crossover <= 1, f"crossover is {self.crossover}", "give a share, 0 to 1")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}", "give a number above 0")
        unknown = [name for name in self.losses if name not in LOSSES]
        require(not unknown, f"no distiller {unknown[0] if unknown else ''!r}", f"choose of {', '.join(LOSSES)}")
        self.setting()

    def setting(self) -> Setting:
        """How scores are taken.

        Raises:
            UserError: a score is unknown.
        """
        return Setting(
            self.scores,
            self.draws,
            self.initialisation,
            self.head_deviation or None,
            self.teacher_state,
            self.student_map,
            self.teacher_map,
            self.seed,
        )
