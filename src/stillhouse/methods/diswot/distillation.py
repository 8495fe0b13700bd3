"""Training a student on labels and a sum of distillation losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stillhouse.core.cache import cached_folder
from stillhouse.core.errors import require
from stillhouse.methods.diswot.distillers import LOSSES, Connectors, Shown
from stillhouse.methods.diswot.scoring import Places, places_in
from stillhouse.vision.images import ImageData
from stillhouse.vision.maps import watched
from stillhouse.vision.soft_outputs import weights_hash
from stillhouse.vision.training import BATCH_IN_USE, Objective, StepImages

Teacher = Callable[[StepImages], Shown]


def show(network: nn.Module, places: Places, images: Tensor) -> Shown:
    """One forward pass, with what the losses look at."""
    with watched(network, [places.last, *places.stages]) as seen:
        logits = network(images)
    return Shown(logits, seen[places.last], tuple(seen[name] for name in places.stages))


def online_teacher(network: nn.Module, places: Places) -> Teacher:
    """The teacher looks at the student's own augmented images in every step."""
    network.eval().requires_grad_(False)

    def shown(step: StepImages) -> Shown:
        with torch.no_grad():
            return show(network, places, step.images)

    return shown


def cached_teacher(network: nn.Module, places: Places, data: ImageData) -> Teacher:
    """What the teacher shows of every training image, plain and mirrored, computed once and kept: steps cost as much as without.

    The student's images must not be moved, or the two would not look at the same places. Maps are kept in half precision.

    Raises:
        UserError: the named map is not the last of its size.
    """
    network.eval().requires_grad_(False)

    def make(folder: Path) -> None:
        parts: dict[str, list[Tensor]] = {}
        for view in (data.images, data.images.flip(3)):
            for images in view.split(BATCH_IN_USE):
                with torch.no_grad():
                    shown = show(network, places, images)
                for name, value in (("logits", shown.logits), *((str(i), m) for i, m in enumerate(shown.stage_maps))):
                    parts.setdefault(name, []).append(value if name == "logits" else value.half())
        save_file({name: torch.cat(values) for name, values in parts.items()}, folder / "shown.safetensors")

    key = (weights_hash(network), data.content_hash, repr(places))
    stored = load_file(cached_folder("shown", key, make) / "shown.safetensors")
    stages = [stored[str(i)] for i in range(len(places.stages))]
    require(places.last in places.stages, "the named map is not the last of its size", "use the teacher online")
    last = places.stages.index(places.last)

    def shown(step: StepImages) -> Shown:
        rows = step.rows + len(data) * step.mirror.long()
        maps = tuple(stage[rows].float() for stage in stages)
        return Shown(stored["logits"][rows], maps[last], maps)

    return shown


class Distillation(Objective):
    """label_share CE + kd_share KD + the other losses, each scaled so that its gradient at the student's last map starts
    at `share` times that of the former two: published weights are those of 240 epochs and other batches."""

    def __init__(
        self,
        network: nn.Module,
        teacher: Teacher,
        losses: Sequence[str],
        example: tuple[Shown, Shown],
        places: Places,
        *,
        label_share: float = 0.1,
        kd_share: float = 0.9,
        share: float = 0.5,
    ) -> None:
        super().__init__(network)
        unknown = [name for name in losses if name not in LOSSES]
        require(not unknown, f"no distiller {unknown[0] if unknown else ''!r}", f"choose of {', '.join(LOSSES)}")
        theirs, ours = example
        require(
            theirs.logits.shape[1] == ours.logits.shape[1],
            f"the teacher has {theirs.logits.shape[1]} classes, the student {ours.logits.shape[1]}",
            "build both for the classes of the data",
        )
        self.teacher, self.losses, self.places = teacher, tuple(losses), places
        self.label_share = label_share if "kd" in losses else 1.0
        self.kd_share, self.share = kd_share, share
        self.connectors = Connectors(ours, theirs)
        self.weights: Tensor
        self.register_buffer("weights", torch.full((len(losses),), torch.nan))

    def forward(self, step: StepImages) -> dict[str, Tensor]:
        teacher, student = self.teacher(step), show(self.network, self.places, step.images)
        labels = nn.functional.cross_entropy(student.logits, step.labels)
        raw = {name: LOSSES[name](teacher, student, step.labels, self.connectors) for name in self.losses}
        if bool(self.weights.isnan().any()):
            self._balance(labels, raw, student.maps)
        weighted = {name: loss * self.weights[i] for i, (name, loss) in enumerate(raw.items())}
        return {"labels": self.label_share * labels, **weighted}

    def _balance(self, labels: Tensor, raw: dict[str, Tensor], maps: Tensor) -> None:
        """Weights of the losses, from the first step's gradients."""

        def norm(loss: Tensor) -> float:
            (grad,) = torch.autograd.grad(loss, maps, retain_graph=True, allow_unused=True)
            return 0.0 if grad is None else float(grad.norm())

        base = self.label_share * labels + (self.kd_share * raw["kd"] if "kd" in raw else 0.0)
        wanted = self.share * norm(base)
        for i, (name, loss) in enumerate(raw.items()):
            size = norm(loss)
            balanced = wanted / size if size > 0 else 1.0
            self.weights[i] = self.kd_share if name == "kd" else balanced


def distillation(
    student: nn.Module, teacher: Teacher, losses: Sequence[str], example: StepImages, *, share: float = 0.5
) -> Distillation:
    """The objective for a student; `example` is a step's images to see shapes on.

    Raises:
        UserError: no such loss, or teacher and student do not fit together.
    """
    shape = tuple(example.images.shape[1:])
    places = places_in(student, shape)  # type: ignore[arg-type]
    with torch.no_grad():
        training = student.training
        shown = show(student.eval(), places, example.images)
        student.train(training)
    return Distillation(student, teacher, losses, (teacher(example), shown), places, share=share)
