"""What all pipelines of a run share: data, teacher, vocabulary, the student's shape and first weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from stillhouse.core.cache import cached_folder
from stillhouse.core.errors import require
from stillhouse.core.files import make_folder_atomically
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.encoders.augmentation import Edits, mixed, word_edits
from stillhouse.encoders.batches import Items, join_items, plain_items
from stillhouse.encoders.data import TextData, Texts, with_examples
from stillhouse.encoders.inherit import inherit
from stillhouse.encoders.masked_lm import MaskedLM, pretrain, refill
from stillhouse.encoders.models import (
    Shape,
    best_device,
    load_classifier,
    load_config,
    minilm_folder,
    new_student,
    shape_of,
    to_best_device,
    weights_hash,
)
from stillhouse.encoders.outputs import Wanted, teacher_outputs
from stillhouse.encoders.public import load_texts
from stillhouse.encoders.teacher import Plan, Teacher, get_teacher
from stillhouse.encoders.tokens import (
    Vocabulary,
    encode,
    load_tokenizer,
    pruned_vocabulary,
    require_same_tokenizer,
    whole_vocabulary,
)
from stillhouse.encoders.training import Recipe
from stillhouse.encoders.translation import back_translation
from stillhouse.methods.distiller.config import Config, Pipeline
from stillhouse.methods.distiller.guide import wanted
from stillhouse.methods.distiller.student import Distillation

REFILL_UPDATES = 200
"""Updates in which the language model of contextual augmentation gets used to the training texts."""
DENOISED_SHARE = 0.3
"""Of the tokens that denoise draws anew."""


@dataclass(frozen=True)
class Task:
    """Data, teacher and student of a run, before any pipeline."""

    config: Config
    data: TextData
    teacher: Teacher
    vocabulary: Vocabulary
    shape: Shape
    train: Items
    select: Items
    report: Items
    """Splits in the student's ids."""

    @property
    def teacher_shape(self) -> Shape:
        """Shape of the teacher."""
        return shape_of(self.teacher.model.config)

    def fresh_student(self, seed: int) -> PreTrainedModel:
        """A student with its first weights."""
        seed_everything(seed, "student weights")
        config, names = self.config, self.data.class_names
        if config.student:
            return to_best_device(load_classifier(Path(config.student), names))
        pad = int(self.vocabulary.tokenizer.pad_token_id)
        student = new_student(self.shape, len(self.vocabulary), config.max_tokens, names, pad)
        if config.init != "random":
            inherit(student, self.teacher.model, self.vocabulary.teacher_ids, config.init)
        return to_best_device(student)

    def teacher_items(self, texts: Texts) -> Items:
        """Texts in the teacher's own ids."""
        return plain_items(encode(self.teacher.tokenizer, texts, self.config.max_tokens), texts.labels)


def open_task(config: Config, run: Run) -> Task:
    """Read the data, get the teacher, and settle what the student looks like.

    Raises:
        UserError: something in data, teacher or student does not fit; says how to mend it.
    """
    data = data_of(config)
    teacher = get_teacher(teacher_plan(config), data, run)
    theirs = shape_of(teacher.model.config)
    vocabulary, shape = _student_of(config, data, teacher, theirs)
    require(
        shape.layers <= theirs.layers,
        f"a student of {shape.layers} layers is deeper than its teacher of {theirs.layers}",
        f"use --layers {theirs.layers} or less",
    )
    require(
        shape.width <= theirs.width,
        f"a student of width {shape.width} is wider than its teacher of {theirs.width}",
        f"use --width {theirs.width} or less",
    )
    parts = [
        plain_items(encode(vocabulary.tokenizer, t, config.max_tokens), t.labels)
        for t in (data.train, data.select, data.report)
    ]
    return Task(config, data, teacher, vocabulary, shape, *parts)


def data_of(config: Config) -> TextData:
    """The data that a config names."""
    data = load_texts(config.data, config.text_column, config.pair_column, config.label_column, config.metric)
    return with_examples(data, config.examples, config.seed)


def teacher_plan(config: Config) -> Plan:
    """The teacher that a config names."""
    width = config.scratch_width
    scratch = Shape(config.scratch_layers, width, max(1, width // 32), 4 * width, width)
    return Plan(
        config.teacher,
        config.teacher_updates,
        config.teacher_rate,
        config.max_tokens,
        scratch,
        config.scratch_pieces,
        config.scratch_updates,
    )


def _student_of(config: Config, data: TextData, teacher: Teacher, theirs: Shape) -> tuple[Vocabulary, Shape]:
    if config.student:
        folder = Path(config.student)
        ours = load_classifier(folder, data.class_names)
        require_same_tokenizer(teacher.tokenizer, load_tokenizer(folder), folder)
        return whole_vocabulary(teacher.tokenizer), shape_of(ours.config)
    prune = pruned_vocabulary(teacher.tokenizer, data.train) if config.prune_vocabulary else None
    return prune or whole_vocabulary(teacher.tokenizer), student_shape(config, theirs)


def student_shape(config: Config, theirs: Shape) -> Shape:
    """The student's shape; what the options leave open follows the teacher's."""
    width = config.width or theirs.width
    head = theirs.width // theirs.heads
    heads = config.heads or (theirs.heads if width == theirs.width else max(1, width // head))
    feed_forward = config.feed_forward or theirs.feed_forward * width // theirs.width // 2
    return Shape(config.layers, width, heads, feed_forward, min(width, config.embedding or width))


def training_parts(task: Task, pipeline: Pipeline) -> list[Items]:
    """The training items of a pipeline: the texts, once more as the operations change them, and mixed pairs."""
    parts = [task.train]
    if pipeline.augmentation:
        edits = Edits(word_edits(task.data.train, _path(task.config.thesaurus)), _models(task, pipeline.augmentation))
        share, seed = task.config.augmentation_share, derive_seed("augmented", task.config.seed)
        new = edits.apply(pipeline.augmentation, task.data.train, share, seed)
        parts.append(plain_items(encode(task.vocabulary.tokenizer, new, task.config.max_tokens), new.labels))
    if pipeline.mixup:
        parts.append(mixed(join_items(parts), len(task.train), task.config.seed))
    return parts


def _path(given: str) -> Path | None:
    return Path(given) if given else None


def _models(task: Task, operations: Sequence[str]) -> dict[str, Callable[[Sequence[str], int], list[str]]]:
    """Operations that need a model, made only where they are asked for."""
    config = task.config
    found: dict[str, Callable[[Sequence[str], int], list[str]]] = {}
    if {"contextual", "denoise"} & set(operations):
        lm = language_model(task)
        for name, share in (("contextual", config.augmentation_share), ("denoise", DENOISED_SHARE)):
            found[name] = refill(lm, task.vocabulary, share, config.max_tokens)
    if "back-translation" in operations:
        found["back-translation"] = back_translation(Path(config.translator), Path(config.back_translator))
    return found


def language_model(task: Task) -> MaskedLM:
    """A masked language model of the training texts, in the student's vocabulary and of its shape, kept in the cache."""
    seed = task.config.seed
    lm = MaskedLM(task.fresh_student(derive_seed("language model", seed))).to(best_device())
    recipe = Recipe(REFILL_UPDATES, 32, 5e-4)
    tokenizer = task.vocabulary.tokenizer

    def make(folder: Path) -> None:
        special, mask = sorted(tokenizer.all_special_ids), int(tokenizer.mask_token_id)
        with Run.create("distiller", {"seed": seed}, out=folder / "run", quiet=True) as run:
            pretrain(lm, task.train, special, mask, recipe, run, "language model", seed)
        shutil.rmtree(folder / "run")
        save_file(
            {name: value.contiguous().clone() for name, value in lm.state_dict().items()}, folder / "lm.safetensors"
        )

    key = ("language model 1", weights_hash(lm.model), task.train.first.ids.tobytes(), repr((recipe, seed)))
    lm.load_state_dict(load_file(cached_folder("language-models", key, make) / "lm.safetensors"))
    return lm.eval()


def distillation(task: Task, pipeline: Pipeline, recipe: Recipe, kept: Wanted | None = None) -> Distillation:
    """A pipeline's items and the teacher's outputs on them, ready to train on.

    Args:
        task: of the run.
        pipeline: what to distil by.
        recipe: how to train.
        kept: teacher outputs to keep for other pipelines too; by default only what this one reads.
    """
    config = task.config
    parts = training_parts(task, pipeline)
    read = wanted(pipeline, task.shape, task.teacher_shape)
    told = None
    if pipeline.hard_weight < 1 or read != Wanted():
        told = teacher_outputs(task.teacher.model, parts, task.vocabulary.teacher_ids, read, kept)
    return Distillation(
        pipeline,
        join_items(parts),
        told,
        task.select,
        task.data.metric,
        task.teacher_shape,
        recipe,
        config.temperature,
        config.intermediate_weight,
        config.balance == "gradient",
        config.critic_rate,
    )


def save_student(student: PreTrainedModel, vocabulary: Vocabulary, folder: Path) -> None:
    """A transformers folder: AutoModelForSequenceClassification and AutoTokenizer open it."""

    def fill(into: Path) -> None:
        student.save_pretrained(into)
        vocabulary.tokenizer.save_pretrained(into)

    make_folder_atomically(folder, fill)


def shapes_before_training(config: Config) -> tuple[Shape, Shape]:
    """Shapes of teacher and student as far as the options alone tell them."""
    plan = teacher_plan(config)
    if config.teacher == "scratch":
        theirs = plan.scratch
    else:
        theirs = shape_of(load_config(minilm_folder() if config.teacher == "minilm" else Path(config.teacher)))
    if config.student:
        return theirs, shape_of(load_config(Path(config.student)))
    return theirs, student_shape(config, theirs)
