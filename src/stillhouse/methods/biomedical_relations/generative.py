"""The T5-type family: the relation is written out, and what is not a known relation counts as none.

    L = - sum_t log p(y_t | y_<t, x)                    x the marked sentence, y the relation's name

Decoding is over known names only: p(r | x) is the softmax over relations of log p(y_r | x), so that every answer is a relation and
comes with a probability. `free_text` decodes without that bound, and says how often the model wrote something unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from stillhouse.core.errors import UserError, first_line
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.core.training import Fitted, Stateful, fit
from stillhouse.encoders.batches import Items, Schedule, assemble, ordered_batches, plain_items
from stillhouse.encoders.data import Texts
from stillhouse.encoders.models import load_config, parameters, to_best_device
from stillhouse.encoders.tokens import encode, load_tokenizer, train_wordpiece
from stillhouse.encoders.training import Best, Recipe, make_optimizer, score, set_rate
from stillhouse.knowledge.pairs import Pair, marked
from stillhouse.methods.biomedical_relations.classical import softmax
from stillhouse.methods.biomedical_relations.config import Config
from stillhouse.methods.biomedical_relations.data import Examples, RelationData
from stillhouse.methods.biomedical_relations.encoder import text_data

WIDTH, LAYERS, HEADS, PIECES = 128, 2, 4, 2000
"""Of the model that is trained from scratch."""
IGNORED = -100
"""Target of padding."""


def written(relation: str) -> str:
    """A relation as words: "Positive_Correlation" is "positive correlation"."""
    return relation.replace("_", " ").replace("-", " ").lower()


class Generative:
    """A T5-type model, its tokenizer, and the names it may write."""

    kind = "generative"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        relations: Sequence[str],
        max_tokens: int,
        blind: bool,
    ) -> None:
        self.model, self.tokenizer, self.relations = model, tokenizer, tuple(relations)
        self.max_tokens, self.blind = max_tokens, blind
        self.parameters = parameters(model)
        self.targets = _targets(tokenizer, relations, int(model.config.eos_token_id))

    def items(self, texts: Texts) -> Items:
        """Marked sentences in the model's ids."""
        return plain_items(encode(self.tokenizer, texts, self.max_tokens), texts.labels)

    def predict(self, pairs: Sequence[Pair], batch: int = 64) -> np.ndarray:
        """[pairs, relations] probabilities."""
        texts = Texts(tuple(marked(p, self.blind) for p in pairs), None, np.zeros(len(pairs), np.int64))
        return self.probabilities(self.items(texts), batch) if len(pairs) else np.zeros((0, len(self.relations)))

    @torch.no_grad()
    def probabilities(self, items: Items, batch: int = 64) -> np.ndarray:
        """[items, relations] softmax of the log-likelihoods of the relations' names."""
        self.model.eval()
        found = np.zeros((len(items), len(self.relations)))
        for index in ordered_batches(items.lengths, batch):
            part = assemble(items, index, self.tokenizer.pad_token_id).to(self.model.device)
            encoded = self.model.get_encoder()(input_ids=part.first, attention_mask=part.mask.long())
            found[index] = self._likelihoods(encoded.last_hidden_state, part.mask).cpu().numpy()
        return softmax(found)

    def _likelihoods(self, states: Tensor, mask: Tensor) -> Float[Tensor, "batch relations"]:
        """log p(y_r | x) of every relation; the encoder has run once."""
        told = []
        for target in self.targets.to(states.device):
            labels = target.repeat(len(states), 1)
            logits = self.model(encoder_outputs=(states,), attention_mask=mask.long(), labels=labels).logits
            told.append(name_likelihood(logits, labels))
        return torch.stack(told, 1)

    @torch.no_grad()
    def free_text(self, pairs: Sequence[Pair], most_tokens: int = 12) -> list[str]:
        """What the model writes when nothing binds it."""
        self.model.eval()
        texts = Texts(tuple(marked(p, self.blind) for p in pairs), None, np.zeros(len(pairs), np.int64))
        items = self.items(texts)
        part = assemble(items, np.arange(len(items)), self.tokenizer.pad_token_id).to(self.model.device)
        made = self.model.generate(
            input_ids=part.first, attention_mask=part.mask.long(), max_new_tokens=most_tokens, do_sample=False
        )  # type: ignore[operator]
        return [str(self.tokenizer.decode(row, skip_special_tokens=True)).strip() for row in made]

    def save(self, folder: Path) -> None:
        """A transformers folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path, relations: Sequence[str], max_tokens: int, blind: bool) -> Generative:
        """What `save` wrote."""
        model, tokenizer = load_generative(folder)
        return cls(to_best_device(model).eval(), tokenizer, relations, max_tokens, blind)


def name_likelihood(logits: Float[Tensor, "batch tokens pieces"], labels: Tensor) -> Float[Tensor, " batch"]:
    """sum_t log p(y_t | y_<t, x) over the target's real tokens."""
    told = logits.log_softmax(-1).gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return (told * (labels != IGNORED)).sum(-1)


def _targets(tokenizer: PreTrainedTokenizerFast, relations: Sequence[str], end: int) -> Tensor:
    """[relations, tokens] names as ids, closed by the end token, padded with IGNORED."""
    rows = [[*tokenizer(written(r), add_special_tokens=False)["input_ids"], end] for r in relations]
    longest = max(map(len, rows))
    return torch.tensor([row + [IGNORED] * (longest - len(row)) for row in rows])


def load_generative(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A T5-type model from a transformers folder.

    Raises:
        UserError: no such folder, or not an encoder-decoder.
    """
    load_config(folder)
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"the model in {folder} cannot be loaded ({first_line(error)})",
            "give a T5-type model saved with model.save_pretrained(folder)",
        ) from error
    return model, load_tokenizer(folder)


def fresh_generative(
    data: RelationData, train: Examples, max_tokens: int, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A small T5 with random weights, whose vocabulary is of the training texts and the relations' names."""
    names = [written(r) for r in data.relations]
    tokenizer = train_wordpiece((*data.texts(train).first, *names * 5), PIECES, max_tokens)
    seed_everything(seed, "generative weights")
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=4 * WIDTH,
        num_layers=LAYERS,
        num_decoder_layers=1,
        num_heads=HEADS,
        dropout_rate=0.1,
        pad_token_id=int(tokenizer.pad_token_id),
        eos_token_id=int(tokenizer.sep_token_id),
        feed_forward_proj="gated-gelu",
    )
    config.decoder_start_token_id = int(tokenizer.pad_token_id)
    return T5ForConditionalGeneration(config), tokenizer


def train_generative(
    config: Config, data: RelationData, train: Examples, run: Run, stage: str = "generative"
) -> tuple[Generative, Fitted]:
    """Train to write the relation; the update that scores best on the select split is kept."""
    if config.generative_model == "scratch":
        model, tokenizer = fresh_generative(data, train, config.max_tokens, config.seed)
    else:
        model, tokenizer = load_generative(Path(config.generative_model))
    to_best_device(model)
    made = Generative(model, tokenizer, data.relations, config.max_tokens, data.blind)
    task = text_data(data, train)
    items, select = made.items(task.train), made.items(task.select)
    recipe = Recipe(config.generative_updates, config.batch, config.generative_rate, checks=5)
    optimizer, best = make_optimizer(model, recipe.rate, recipe.weight_decay), Best()
    schedule = Schedule(items.lengths, recipe.batch, derive_seed(stage, config.seed))
    targets = made.targets.to(model.device)

    def step(update: int) -> dict[str, Tensor]:
        model.train()
        index = schedule[update]
        part = assemble(items, index, tokenizer.pad_token_id).to(model.device)
        loss = model(
            input_ids=part.first, attention_mask=part.mask.long(), labels=targets[torch.from_numpy(items.labels[index])]
        ).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        set_rate(optimizer, recipe.rate * recipe.factor(update))
        optimizer.step()
        return {stage: loss.detach()}

    def evaluate(update: int, _seconds: float) -> None:
        best.see(update, score("macro_f1", select.labels, made.probabilities(select).argmax(1)), model)

    state: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "best": best}
    fitted = fit(
        step, state, recipe.updates, run, stage=stage, evaluate=evaluate, evaluate_at=recipe.due(), seed=config.seed
    )
    model.load_state_dict(best.weights)
    model.eval()
    return made, fitted
