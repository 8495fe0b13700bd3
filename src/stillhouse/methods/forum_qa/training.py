"""Fine-tuning readers, and distilling one into a smaller one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from stillhouse.core.cache import cache_root
from stillhouse.core.files import content_hash, make_folder_atomically, read_json, write_json
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.core.training import Fitted, Stateful, fit
from stillhouse.corpus.squad import Question, QuestionSet
from stillhouse.encoders.batches import Items, Schedule, assemble
from stillhouse.encoders.models import load_config, to_best_device
from stillhouse.encoders.tokens import fingerprint, load_tokenizer
from stillhouse.encoders.training import Best, Recipe, make_optimizer, set_rate
from stillhouse.methods.forum_qa.config import Config
from stillhouse.methods.forum_qa.losses import distillation_loss, masked, span_loss
from stillhouse.methods.forum_qa.metrics import mark
from stillhouse.methods.forum_qa.reader import (
    Reader,
    Reading,
    allowed,
    forward,
    is_reader,
    load_reader_model,
    reader_source,
    require_positions,
    tuned,
)
from stillhouse.methods.forum_qa.windows import Windows, training_windows

RECIPE = "reader 1"
"""Part of the cache's key: to be changed with anything in the training that the config does not name."""
MOST_CHECKED = 160
"""Select questions that the best update is chosen on; threshold and temperature are chosen on all of them."""


@dataclass(frozen=True)
class Teaching:
    """A teacher beside the student: it reads the batch of every update too, and its start and end scores are matched."""

    model: PreTrainedModel
    items: Items
    """The lesson's windows in the teacher's ids."""
    hard_weight: float
    temperature: float


@dataclass(frozen=True)
class Lesson:
    """What a reader is trained on."""

    windows: Windows
    """Those with gold answers first."""
    teaching: Teaching | None = None
    """None to learn from gold answers alone."""
    unlabelled: int = 0
    """So many windows at the end have no gold answer: the teacher alone says what is right."""

    def gold(self, index: np.ndarray) -> np.ndarray:
        """Which of some windows have a gold answer (or are known to have none)."""
        return index < len(self.windows) - self.unlabelled


@dataclass(frozen=True)
class Trained:
    """A reader with what its training took; threshold and temperature are chosen."""

    reader: Reader
    seconds: float | None
    """None for one that came fine-tuned."""
    updates: int
    folder: Path | None = None
    note: str = ""


def train_reader(
    reader: Reader, lesson: Lesson, select: Sequence[Question], recipe: Recipe, run: Run, stage: str, seed: int
) -> tuple[Best, Fitted]:
    """L = h L_gold + (1 - h) L_KD, L_gold over the windows that have one; the reader's model ends with the weights of the best F1 on select questions."""
    model, windows = reader.model, lesson.windows
    optimizer = make_optimizer(model, recipe.rate, recipe.weight_decay)
    schedule = Schedule(windows.items.lengths, recipe.batch, derive_seed(stage, seed))
    best = Best()
    order = np.random.default_rng(derive_seed("checked", 0)).permutation(len(select))[:MOST_CHECKED]
    checked = [select[i] for i in order]
    seen = reader.windows(checked)

    def step(update: int) -> dict[str, Tensor]:
        model.train()
        index = schedule[update]
        losses = batch_losses(model, lesson, index)
        optimizer.zero_grad()
        torch.stack([weight * loss for weight, loss in losses.values()]).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        set_rate(optimizer, recipe.rate * recipe.factor(update))
        optimizer.step()
        return {name: loss.detach() for name, (_, loss) in losses.items()}

    def evaluate(update: int, _seconds: float) -> None:
        best.see(update, select_f1(reader, checked, seen), model)

    state: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "best": best}
    fitted = fit(step, state, recipe.updates, run, stage=stage, evaluate=evaluate, evaluate_at=recipe.due(), seed=seed)
    model.load_state_dict(best.weights)
    model.eval()
    return best, fitted


def batch_losses(model: PreTrainedModel, lesson: Lesson, index: np.ndarray) -> dict[str, tuple[float, Tensor]]:
    """Weight and loss, by name, of a batch of windows."""
    windows, teaching = lesson.windows, lesson.teaching
    batch = assemble(windows.items, index, model.config.pad_token_id)
    inside = allowed(windows, index, batch.first.shape[1]).to(model.device)
    start, end = (masked(scores, inside) for scores in forward(model, batch))
    made: dict[str, tuple[float, Tensor]] = {}
    hard_weight = teaching.hard_weight if teaching else 1.0
    known = lesson.gold(index)
    if hard_weight > 0 and known.any():
        places = [torch.from_numpy(side[index[known]]).to(model.device) for side in (windows.starts, windows.ends)]
        rows = torch.from_numpy(known).to(model.device)
        made["span"] = hard_weight, span_loss(start[rows], end[rows], *places)
    if teaching:
        told_start, told_end = (masked(scores, inside) for scores in _told(teaching, index))
        made["distillation"] = (
            1 - hard_weight,
            distillation_loss(start, end, told_start, told_end, teaching.temperature),
        )
    return made


@torch.no_grad()
def _told(teaching: Teaching, index: np.ndarray) -> tuple[Tensor, Tensor]:
    return forward(teaching.model, assemble(teaching.items, index, teaching.model.config.pad_token_id))


def select_f1(reader: Reader, questions: Sequence[Question], windows: Windows) -> float:
    """Mean F1 with the threshold that is best on these very questions: for choosing, not for reporting."""
    found = reader.candidates(questions, windows)
    said = tuned(reader, questions, found).predictions(questions, found)
    return float(np.mean([mark(p, q.golds).f1 for p, q in zip(said, questions, strict=True)]))


def recipe_of(updates: int, batch: int, rate: float) -> Recipe:
    """How every reader is trained: three looks at the select split."""
    return Recipe(updates, batch, rate, checks=min(3, updates))


def reading_of(config: Config) -> Reading:
    """How every reader of a run reads."""
    return Reading(config.max_tokens, config.stride, config.max_answer_tokens)


def finished(reader: Reader, questions: QuestionSet) -> Reader:
    """The trained reader with threshold and temperature chosen on all select questions."""
    return tuned(reader, questions.select, reader.candidates(questions.select))


def get_teacher(config: Config, questions: QuestionSet, run: Run) -> Trained:
    """The teacher: a folder that is a reader as it is, anything else fine-tuned once and kept in the cache.

    Raises:
        UserError: no such folder, or one that cannot read windows of this length.
    """
    source, layers = reader_source(config.reader)
    require_positions(source, config.max_tokens)
    if not layers and is_reader(load_config(source)):
        reader = _opened(source, source, config)
        return Trained(finished(reader, questions), None, 0, source, "as it came")
    settings = {
        name: getattr(config, name)
        for name in (
            "teacher_updates",
            "teacher_rate",
            "batch",
            "max_tokens",
            "stride",
            "max_answer_tokens",
            "train_words",
            "windows_without",
            "seed",
        )
    }
    key = (RECIPE, _source_hash(source), str(layers), repr(settings), questions.content_hash, torch.__version__)
    folder = cache_root() / "readers" / content_hash(key)
    if not folder.is_dir():
        run.log("the teacher is fine-tuned once and kept in the cache")
        _into_cache(fine_tuned(config, config.reader, questions, run, "teacher"), folder)
        shutil.rmtree(run.checkpoint_folder / "teacher", ignore_errors=True)  # the cache has it now
    else:
        run.log(f"teacher from the cache: {folder}")
    made = read_json(folder / "training.json")
    reader = _opened(folder, folder, config)
    return Trained(finished(reader, questions), made["seconds"], made["updates"], folder)


def _opened(folder: Path, tokenizer: Path, config: Config) -> Reader:
    model = to_best_device(load_reader_model(folder)).eval()
    return Reader(model.requires_grad_(False), load_tokenizer(tokenizer), reading_of(config))


def _source_hash(folder: Path) -> str:
    weights = sorted(folder.glob("*.safetensors"))
    return content_hash([fingerprint(load_tokenizer(folder)), *(f.read_bytes() for f in weights)])


def _into_cache(made: Trained, folder: Path) -> None:
    def fill(into: Path) -> None:
        made.reader.model.save_pretrained(into)
        made.reader.tokenizer.save_pretrained(into)
        write_json(into / "training.json", {"seconds": made.seconds, "updates": made.updates})

    make_folder_atomically(folder, fill)


def fine_tuned(config: Config, name: str, questions: QuestionSet, run: Run, stage: str) -> Trained:
    """A reader fine-tuned on the train questions from "minilm", "minilm-3" or a folder."""
    source, layers = reader_source(name)
    require_positions(source, config.max_tokens)
    seed_everything(config.seed, "reader head", name)
    model = to_best_device(load_reader_model(source, layers))
    if not config.train_words:
        model.get_input_embeddings().requires_grad_(False)
    reader = Reader(model, load_tokenizer(source), reading_of(config))
    windows = reader.windows(questions.train)
    lesson = Lesson(training_windows(windows, config.windows_without, config.seed))
    recipe = recipe_of(config.teacher_updates, config.batch, config.teacher_rate)
    best, fitted = train_reader(reader, lesson, questions.select, recipe, run, stage, config.seed)
    note = f"best of select at update {best.update}"
    return Trained(finished(reader, questions), fitted.seconds, fitted.updates, note=note)


MakeModel = Callable[[], PreTrainedModel]


def distilled(
    config: Config,
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerFast,
    lesson: Lesson,
    questions: QuestionSet,
    run: Run,
    stage: str,
) -> Trained:
    """A student trained by a lesson."""
    reader = Reader(to_best_device(make_model()), tokenizer, reading_of(config))
    recipe = recipe_of(config.updates, config.batch, config.rate)
    best, fitted = train_reader(reader, lesson, questions.select, recipe, run, stage, config.seed)
    note = f"best of select at update {best.update}"
    return Trained(finished(reader, questions), fitted.seconds, fitted.updates, note=note)
