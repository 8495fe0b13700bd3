"""Options of DistillNearest and DistillWeighted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from stillhouse.core.errors import require
from stillhouse.methods.similar_tasks.ranking import require_metric
from stillhouse.methods.similar_tasks.weights import Weighting
from stillhouse.vision.source_tasks import parse_network

ArmName = Literal[
    "weighted",
    "nearest",
    "uniform",
    "random",
    "worst",
    "oracle",
    "scratch",
    "finetune",
    "probe",
    "broad",
    "fixmatch",
    "fixmatch_broad",
    "fixmatch_weighted",
]
LATER_ARMS = ("fixmatch_broad", "fixmatch_weighted")
DEFAULT_ARMS: tuple[ArmName, ...] = tuple(arm for arm in get_args(ArmName) if arm not in LATER_ARMS)
SMALL = "plain width=16"
"""The student's network, which some of the built-in sources have too."""


@dataclass(frozen=True)
class Config:
    """A small classifier from few labels, many unlabelled images and a folder of other people's models."""

    data: str = "mnist-5k"
    """A built-in set (mnist-5k, digits, mnist, fashion-mnist, cifar10, omniglot, typed-capitals ...), a folder with a subfolder a class, an .npz file; with --label-file, a folder of images."""
    classes: tuple[str, ...] = ("*",)
    """Patterns of the class names to keep, as of file names."""
    size: int = 16
    """Side that images are resized to; 0 keeps theirs."""
    images: int = 2000
    """At most this many training images, labelled and unlabelled; 0 takes all."""
    labels: int = 5
    """Labels a class that are shown; all others of a labelled set are hidden."""
    label_file: str = ""
    """A CSV file with the columns file and label for a few images of the folder; the others are unlabelled."""
    test: str = ""
    """With --label-file: labelled images to report on; without, 30 % of the labelled ones are held back."""
    unlabelled: str = ""
    """With --label-file: a folder of further images without labels."""
    sources: str = "train"
    """train (small networks on the source tasks, cached), or a folder: of network.json or transformers folders and .onnx files."""
    source_tasks: tuple[str, ...] = (
        "digits",
        "typed-digits",
        "typed-capitals",
        "typed-small",
        "typed-greek",
        "typed-cyrillic",
    )
    """Tasks that source models are trained on; fashion-tops, fashion-rest, cifar-animals, cifar-vehicles, omniglot-european ... need $STILLHOUSE_DATA."""
    source_networks: tuple[str, ...] = (SMALL, "resnets blocks1=1 blocks2=1 blocks3=1 width=8")
    """Networks trained on each of them."""
    source_updates: int = 300
    """Optimizer updates of each."""
    leave_out: tuple[str, ...] = ()
    """Names of sources that must have no part."""
    similarity: str = "auc"
    """What weights go by: auc (PARC freed of its class-count ceiling), auc_plain, parc, cka, logme, h_score, nearest (1-NN), leep, nce."""
    significance: float = 2.0
    """Sources must exceed what shuffled labels give by so many of their deviations; 0 takes scores as they are (published)."""
    weighting: Weighting = "power"
    """power (a = e^p), or softmax over standardised e."""
    power: float = 3.0
    """Sharpness p of the weights: 0 is uniform, inf the nearest source alone."""
    softmax_temperature: float = 1.0
    """Of the softmax weighting."""
    top_k: int = 0
    """Only the k most similar sources; 0 is all."""
    redundancy: float = 0.9
    """Sources whose features are alike beyond this (debiased CKA) share a vote; 0 gives each its own (published)."""
    label_share: float = 0.8
    """lambda: weight of the labelled cross-entropy, 1 - lambda of the distillation."""
    temperature: float = 0.0
    """Of the soft outputs; 0 finds one a source, at which their mean entropy is --entropy of the largest possible."""
    entropy: float = 0.5
    """See temperature."""
    divide_by_classes: bool = True
    """Divide each source's loss by the logarithm of its class count."""
    student: str = SMALL
    """The small network: a space and its options, e.g. "mobilenets width=8 depth1=1"."""
    initial: Literal["random", "broad", "nearest"] = "random"
    """What every arm's student starts from: random weights, the broad initialisation, or the nearest source of the student's network."""
    broad_updates: int = 600
    """Updates of the broad initialisation: the student's network trained on all source tasks together."""
    arms: tuple[ArmName, ...] = DEFAULT_ARMS
    """What to train and compare; weighted is always there. fixmatch_broad and fixmatch_weighted start FixMatch from those."""
    updates: int = 300
    """Optimizer updates of every arm."""
    labelled_batch: int = 16
    """Labelled images of an update."""
    unlabelled_batch: int = 112
    """Unlabelled images of an update, where an arm has any."""
    learning_rate: float = 0.05
    """Highest rate of SGD with momentum."""
    weight_decay: float = 5e-4
    """L2."""
    fixmatch_learning_rate: float = 0.03
    """First rate of FixMatch."""
    fixmatch_threshold: float = 0.95
    """Pseudo-labels below this probability have no part."""
    shift: int = 1
    """Training images are moved by up to this many pixels."""
    mirror: bool = False
    """Half of the training images are mirrored."""
    seed: int = 0
    """Of the labels that are shown, weights and batches; the split of the data is the same for all seeds."""

    def __post_init__(self) -> None:
        require_metric(self.similarity)
        counts = (self.labels, self.updates, self.source_updates, self.broad_updates, self.labelled_batch)
        require(
            min(counts) >= 1,
            "labels, updates, source_updates, broad_updates or labelled_batch below 1",
            "give one or more",
        )
        require(self.unlabelled_batch >= 1, f"unlabelled_batch is {self.unlabelled_batch}", "give one or more")
        require(self.power >= 0, f"power is {self.power}", "give 0 (uniform) up to inf (nearest)")
        require(self.significance >= 0, f"significance is {self.significance}", "give 0 or more deviations")
        require(self.softmax_temperature > 0, "softmax_temperature is not above 0", "give a number above 0")
        require(0 < self.label_share <= 1, f"label_share is {self.label_share}", "give a share above 0, at most 1")
        require(self.temperature >= 0, f"temperature is {self.temperature}", "give 0 to find one, or a number above 0")
        require(0 < self.entropy < 1, f"entropy is {self.entropy}", "give a share between 0 and 1")
        require(0 <= self.redundancy <= 1, f"redundancy is {self.redundancy}", "give a CKA, 0 to 1")
        require(0 < self.fixmatch_threshold < 1, "fixmatch_threshold is not between 0 and 1", "give a probability")
        require(min(self.learning_rate, self.fixmatch_learning_rate) > 0, "a learning rate is not above 0", "mend it")
        require(
            not (self.test or self.unlabelled) or bool(self.label_file),
            "test or unlabelled without label_file",
            "name the labelled images with --label-file",
        )
        parse_network(self.student)
        for network in self.source_networks:
            parse_network(network)
