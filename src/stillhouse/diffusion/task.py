"""What the image methods share around their engine: data, teacher, evaluation, curves, pictures and the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from stillhouse.core.errors import require
from stillhouse.core.files import content_hash, folder_bytes
from stillhouse.core.result import Arm, Cost, Curve, Metric, Picture, Role
from stillhouse.core.run import Run
from stillhouse.diffusion.conditions import Conditions, spread
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.evaluation import (
    Sampler,
    balanced_labels,
    cached_metrics,
    draw_images,
    heun_sampler,
    image_metrics,
    latencies,
    student_sampler,
)
from stillhouse.diffusion.features import TrainedFeatures, trained_features
from stillhouse.diffusion.metrics import ImageEvaluator
from stillhouse.diffusion.teacher import Teacher, TeacherPlan, default_widths, get_teacher
from stillhouse.vision.images import Splits, load_images, save_grid, split

AXES = {
    "student_updates": "Student updates",
    "network_passes": "Network passes in training, all networks",
}
CURVE_METRICS = ("fid", "kid", "recall")
CURVE_SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""When a training curve is measured, as shares of the student's updates."""
GRID_COLUMNS = 10
FEWEST_HELD_OUT = 10


@dataclass(frozen=True, kw_only=True)
class JudgedTask:
    """Options that every method with an image teacher has: the teacher, and how students are judged."""

    teacher: str = "train"
    """train (a small one, kept in the cache), or a diffusers folder."""
    prediction: Literal["edm", "epsilon", "v_prediction"] | None = None
    """What the teacher's network predicts, where its folder does not say."""
    widths: tuple[int, ...] = ()
    """Channels of each level of a teacher trained here; by the image size by default."""
    teacher_updates: int = 800
    """Updates of a teacher trained here."""
    teacher_batch: int = 128
    """Images an update of a teacher trained here."""
    teacher_steps: int = 18
    """Heun steps of the teacher in comparisons; 2 n - 1 network passes."""
    guidance_scale: float = 1.0
    """Classifier-free guidance of the teacher, in distillation and in comparisons."""
    samples: int = 2500
    """Images that each arm is judged by."""
    judged_on: Literal["report", "select"] = "report"
    """Which held-out real images arms are compared with; choose settings on select."""
    seed: int = 0
    """Seed of everything random but the teacher and the data splits."""


@dataclass(frozen=True, kw_only=True)
class ImageTask(JudgedTask):
    """Options of the methods that are given images."""

    data: str = "digits"
    """digits, captioned-digits, mnist-5k, mnist, fashion-mnist, a folder of images (subfolders are classes), or an .npz
    file."""
    size: int | None = None
    """Side of the images in pixels; as the data has it by default."""
    channels: Literal[1, 3] | None = None
    """1 for grey or 3 for colour; as the images are by default."""
    conditions: Literal["class", "text"] = "class"
    """What a teacher trained here is told: the class, or a caption."""


@dataclass(frozen=True)
class Setting:
    """An image task made ready: everything a method needs before its own work begins."""

    splits: Splits
    teacher: Teacher
    evaluator: ImageEvaluator
    features: TrainedFeatures
    labels: Int[Tensor, " samples"]
    """What the evaluated images are of."""
    device: torch.device
    seed: int

    @cached_property
    def floor(self) -> dict[str, dict[str, float]]:
        """What real images score, see `ImageEvaluator.floor`."""
        return self.evaluator.floor()

    @property
    def conditions(self) -> Conditions:
        """The teacher's conditions by label."""
        return self.teacher.conditions

    def real_images(self) -> RealImages:
        """The training images as the networks see them (latents, for a teacher of latents)."""
        train, autoencoder = self.splits.train, self.teacher.autoencoder
        images = train.images.to(self.device)
        return RealImages(autoencoder.encode(images) if autoencoder else images, train.labels.to(self.device))

    def student_sampler(self, student: Denoiser, sigmas: tuple[float, ...]) -> Sampler:
        """A few-step student beside this teacher."""
        return student_sampler(student, sigmas, self.teacher.autoencoder)

    def measure(self, sampler: Sampler) -> dict[str, float]:
        """Quality of a sampler's images; every sampler gets the same noise and labels."""
        images = draw_images(sampler, self.conditions, self.labels, self.seed)
        return self.evaluator(images, self.labels.cpu())


def prepare(task: ImageTask, run: Run) -> Setting:
    """Load and split the data, get the teacher, make the evaluator."""
    check_judged_task(task)
    splits = load_splits(task)
    device = best_device()
    teacher = get_teacher(task.teacher, teacher_plan(task, splits), splits.train, run, device, task.prediction)
    return setting_of(task, splits, teacher, device, run)


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_judged_task(task: JudgedTask) -> None:
    """Refuse settings that cannot work.

    Raises:
        UserError: names the option and the mend.
    """
    require(task.samples >= 100, f"{task.samples} samples are too few to judge by", "use --samples 100 or more")
    require(task.teacher_steps >= 2, f"{task.teacher_steps} teacher steps", "use --teacher-steps 2 or more")
    require(task.teacher_batch > 0 and task.teacher_updates > 0, "a teacher without updates or images", "use 1 or more")


def setting_of(task: JudgedTask, splits: Splits, teacher: Teacher, device: torch.device, run: Run) -> Setting:
    """What a method needs, from the teacher and the images that students are judged against."""
    features = trained_features(splits, quiet=run.quiet)
    evaluator = ImageEvaluator.for_split(splits, features, task.judged_on)
    labels = balanced_labels(splits.train.labels, task.samples).to(device)
    return Setting(splits, teacher, evaluator, features, labels, device, task.seed)


def load_splits(task: ImageTask) -> Splits:
    """The task's data, split.

    Raises:
        UserError: it cannot be read, or leaves too few images to judge by.
    """
    splits = split(load_images(task.data, size=task.size, channels=task.channels), seed=0)
    held_out = splits.select if task.judged_on == "select" else splits.report
    require(
        len(held_out) >= FEWEST_HELD_OUT,
        f"{task.data} leaves {len(held_out)} images to judge by",
        f"give about {FEWEST_HELD_OUT * 6} images or more",
    )
    return splits


def teacher_plan(task: ImageTask, splits: Splits) -> TeacherPlan:
    """The teacher that this task would train.

    Raises:
        UserError: no network of these widths fits the images.
    """
    return TeacherPlan(
        widths=teacher_widths(task, splits.train.size),
        text=task.conditions == "text",
        updates=task.teacher_updates,
        batch=task.teacher_batch,
    )


def teacher_widths(task: JudgedTask, size: int) -> tuple[int, ...]:
    """Channels of the teacher that this task would train for images of this size.

    Raises:
        UserError: no network of these widths fits the images.
    """
    widths = task.widths or default_widths(size)
    if task.teacher == "train":
        require(
            all(width > 0 and width % 8 == 0 for width in widths) and size % 2 ** (len(widths) - 1) == 0,
            f"widths {' '.join(map(str, widths))} do not fit images of {size} x {size}",
            "use multiples of 8, and no more levels than the size can be halved",
        )
    return widths


def curve_updates(student_updates: int) -> tuple[int, ...]:
    """Numbers of student updates at which a training curve is measured."""
    return tuple(sorted({round(share * student_updates) for share in CURVE_SHARES}))


def read_curves(run: Run, stage: str, arm: str) -> tuple[Curve, ...]:
    """The curves of an arm from the evaluations that its stage recorded."""
    records = [entry for entry in run.records(stage=stage) if "evaluation" in entry]
    return tuple(
        Curve(
            arm,
            metric,
            tuple({**{axis: r[axis] for axis in AXES}, "value": r["evaluation"][metric]} for r in records),
        )
        for metric in CURVE_METRICS
        if records
    )


def sampler_cost(sampler: Sampler, network: nn.Module, conditions: Conditions, **more: Any) -> Cost:
    """What it costs to use a sampler; `more` says what it cost to make."""
    return Cost(
        parameters=sum(p.numel() for p in network.parameters()),
        network_passes=sampler.passes,
        latency_seconds=latencies(sampler, conditions, next(network.parameters()).device),
        **more,
    )


def standing_arms(task: JudgedTask, setting: Setting) -> list[Arm]:
    """The arms that need no distillation: the teacher, the teacher cut short, and real training images."""
    teacher = setting.teacher
    full, short, one = teacher_samplers(task, teacher)
    made = {"training_seconds": teacher.training_seconds, "training_passes": teacher.training_passes}

    def arm(name: str, role: Role, sampler: Sampler, note: str) -> Arm:
        cost = sampler_cost(
            sampler, teacher.denoiser, setting.conditions, bytes_on_disk=folder_bytes(teacher.folder), **made
        )
        return Arm(name, role, _teacher_metrics(task, setting, sampler), cost, task.seed, note)

    floor = setting.floor
    return [
        arm(f"teacher, {full.name}", "teacher", full, ""),
        arm(f"teacher, {short.name}", "baseline", short, "the teacher with fewer steps"),
        arm("teacher, one pass", "baseline", one, "no distillation: the student before its first update"),
        Arm("real training images", "floor", floor["train"], Cost(), task.seed, "what perfect copying would score"),
        Arm("real half against real half", "floor", floor["halves"], Cost(), task.seed, "half as many references"),
    ]


def teacher_samplers(task: JudgedTask, teacher: Teacher) -> tuple[Sampler, Sampler, Sampler]:
    """The teacher in full, with a quarter of its steps, and with one pass."""
    denoiser, autoencoder = teacher.denoiser, teacher.autoencoder
    return (
        heun_sampler(denoiser, task.teacher_steps, task.guidance_scale, autoencoder),
        heun_sampler(denoiser, max(2, task.teacher_steps // 4), task.guidance_scale, autoencoder),
        student_sampler(denoiser, (denoiser.preconditioning.sigma_max,), autoencoder),
    )


def _teacher_metrics(task: JudgedTask, setting: Setting, sampler: Sampler) -> dict[str, float]:
    denoiser, table, null = setting.teacher.denoiser, setting.conditions.table, setting.teacher.denoiser.null_condition
    key = {
        "teacher": weights_hash(denoiser),
        "network": repr(sorted(denoiser.config.items())),
        "preconditioning": repr(denoiser.preconditioning),
        "precision": str(denoiser.autocast_dtype),
        "conditions": [None if t is None else content_hash([t.cpu().numpy().tobytes()]) for t in (table, null)],
        "autoencoder": setting.teacher.autoencoder and content_hash([setting.teacher.autoencoder.weights()]),
        "reference": setting.evaluator.reference.content_hash,
        "torch": torch.__version__,
        "sampler": sampler.name,
        "guidance": task.guidance_scale,
        **({"attributes": setting.splits.train.attributes} if setting.splits.train.attributes else {}),
        "samples": task.samples,
        "seed": task.seed,
        "data": setting.splits.train.content_hash,
        "judged_on": task.judged_on,
        "features": setting.features.folder.name,
    }
    return cached_metrics(key, lambda: setting.measure(sampler))


def weights_hash(denoiser: Denoiser) -> str:
    """Digest of the network's weights."""
    return content_hash(p.detach().cpu().numpy().tobytes() for p in denoiser.parameters())


def sample_pictures(run: Run, setting: Setting, samplers: Mapping[str, Sampler]) -> tuple[Picture, ...]:
    """A grid of each sampler's images, all from the same noise: see `picture_columns`."""
    columns = picture_columns(setting)
    names, classes = [setting.conditions.names[label] for label in columns], len(columns)
    labels = torch.tensor(columns, device=setting.device).repeat(6 if classes > 1 else 60)[:60]
    pictures = []
    for i, (title, sampler) in enumerate(samplers.items()):
        images = draw_images(sampler, setting.conditions, labels, seed=setting.seed)
        path = run.picture_file(f"{i}-samples.png")
        save_grid(images, GRID_COLUMNS if classes == 1 else classes, path)
        pictures.append(
            Picture(
                title,
                str(path.relative_to(run.folder)),
                f"Grid of {len(labels)} images by {title}, columns: {', '.join(names)}",
                f"{sampler.passes} network pass{'es' if sampler.passes != 1 else ''} an image",
            )
        )
    return tuple(pictures)


def picture_columns(setting: Setting) -> list[int]:
    """Labels of a picture's columns: all of them, or ten from everywhere."""
    return list(spread(range(len(setting.conditions.names)), GRID_COLUMNS))


def metrics_of(setting: Setting) -> tuple[Metric, ...]:
    """How this setting's metrics are read."""
    return image_metrics(setting.floor["train"])
