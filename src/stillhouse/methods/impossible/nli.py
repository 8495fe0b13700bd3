"""Entailment critics: p(premise => hypothesis) for pairs of sentences.

* `AttentionCritic`, decomposable attention (Parikh et al. 2016, arXiv 1606.01933): every word is compared with what it attends to
  in the other sentence. It has a hundredth of an encoder's cost, and does not see the order of words.

      e_ij = F(a_i) . F(b_j)      beta_i = sum_j softmax_j(e_ij) b_j      alpha_j = sum_i softmax_i(e_ij) a_i
      v_a = sum_i G(a_i, beta_i, |a_i - beta_i|)      v_b = sum_j G(b_j, alpha_j, |b_j - alpha_j|)      p = softmax H(v_a, v_b)

  The difference |a - beta| is ours: what is compared is then said rather than learned.
* `EncoderCritic`: any transformers folder for sequence classification with a class called entailment.
* `EmbeddingCritic`: cosine of MiniLM's sentence vectors. It cannot tell direction: likeness, not entailment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerFast

from stillhouse.core.errors import require
from stillhouse.core.files import content_hash, read_json, write_json
from stillhouse.core.run import Run
from stillhouse.core.training import fit
from stillhouse.encoders.batches import plain_items
from stillhouse.encoders.data import Texts
from stillhouse.encoders.models import load_classifier, minilm_folder, to_best_device, weights_hash
from stillhouse.encoders.tokens import encode, fingerprint, load_tokenizer
from stillhouse.encoders.training import Recipe, descend, make_optimizer, predict

PAIRS_AT_ONCE = 4096


class EntailmentCritic(Protocol):
    """Says how sure it is that a hypothesis follows from a premise."""

    name: str
    fingerprint: str
    """Changes with what it says."""

    def entailment(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Float[np.ndarray, " pairs"]:
        """p(premise => hypothesis) of every pair."""
        ...


class DecomposableAttention(nn.Module):
    """Words of two sentences, soft-aligned and compared."""

    def __init__(self, pieces: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(pieces, width, padding_idx=0)
        nn.init.normal_(self.words.weight, std=width**-0.5)
        self.attend = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.compare = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.aggregate = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, a: Int[Tensor, "pairs m"], b: Int[Tensor, "pairs n"]) -> Float[Tensor, "pairs 2"]:
        """Logits of "does not follow" and "follows"; id 0 is padding."""
        words_a, words_b, real_a, real_b = self.words(a), self.words(b), a != 0, b != 0
        scores = self.attend(words_a) @ self.attend(words_b).transpose(1, 2)
        v_a = self._compared(words_a, real_a, scores, words_b, real_b)
        v_b = self._compared(words_b, real_b, scores.transpose(1, 2), words_a, real_a)
        return cast(Tensor, self.aggregate(torch.cat([v_a, v_b], dim=-1)))

    def _compared(
        self, own: Tensor, real: Tensor, scores: Tensor, others: Tensor, real_others: Tensor
    ) -> Float[Tensor, "pairs width"]:
        aligned = attended(scores, others, real_others)
        compared: Tensor = self.compare(torch.cat([own, aligned, (own - aligned).abs()], dim=-1))
        return (compared * real[..., None]).sum(1)


def attended(
    scores: Float[Tensor, "pairs m n"], values: Float[Tensor, "pairs n width"], real: Bool[Tensor, "pairs n"]
) -> Float[Tensor, "pairs m width"]:
    """sum_j softmax_j(scores) values_j over real words."""
    return scores.masked_fill(~real[:, None], torch.finfo(scores.dtype).min).softmax(-1) @ values


class AttentionCritic:
    """Decomposable attention over a tokenizer's pieces."""

    def __init__(self, model: DecomposableAttention, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        state = model.state_dict()
        parts = [part for key in sorted(state) for part in (key, state[key].cpu().numpy().tobytes())]
        self.fingerprint = content_hash([fingerprint(tokenizer), *parts])

    @torch.no_grad()
    def entailment(self, premises: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        """p(premise => hypothesis); a sentence is tokenised once however many pairs it is in."""
        if not premises:
            return np.zeros(0, np.float32)
        known = {text: i for i, text in enumerate(dict.fromkeys([*premises, *hypotheses]))}
        ids = torch.from_numpy(piece_ids(self.tokenizer, list(known)))
        a, b = (torch.tensor([known[text] for text in side], dtype=torch.int64) for side in (premises, hypotheses))
        parts = [
            self.model(ids[a[i : i + PAIRS_AT_ONCE]], ids[b[i : i + PAIRS_AT_ONCE]]).softmax(-1)[:, 1].numpy()
            for i in range(0, len(a), PAIRS_AT_ONCE)
        ]
        return np.concatenate(parts)


def piece_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], most: int = 64) -> np.ndarray:
    """[texts, pieces] ids plus 1, 0 where there is none."""
    rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    made = np.zeros((len(rows), max([1, *(min(len(row), most) for row in rows)])), np.int64)
    for place, row in zip(made, rows, strict=True):
        place[: len(row)] = np.array(row[: len(place)], np.int64) + 1
    return made


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs of sentences and whether the second follows from the first."""

    premises: Sequence[str]
    hypotheses: Sequence[str]
    entailed: np.ndarray
    """[pairs] bool."""


def train_attention(
    pairs: LabelledPairs, tokenizer: PreTrainedTokenizerFast, width: int, recipe: Recipe, run: Run
) -> DecomposableAttention:
    """Cross-entropy with the labels of the pairs."""
    model = DecomposableAttention(len(tokenizer) + 1, width)
    optimizer = make_optimizer(model, recipe.rate, recipe.weight_decay)
    a, b = (torch.from_numpy(piece_ids(tokenizer, texts)) for texts in (pairs.premises, pairs.hypotheses))
    labels = torch.from_numpy(np.asarray(pairs.entailed, np.int64))

    def step(update: int) -> dict[str, Tensor]:
        index = torch.randint(len(labels), (recipe.batch,))
        loss = nn.functional.cross_entropy(model(a[index], b[index]), labels[index])
        descend(loss, model, optimizer, recipe.rate * recipe.factor(update))
        return {"critic": loss.detach()}

    fit(step, {"model": model, "optimizer": optimizer}, recipe.updates, run, stage="critic", seed=0)
    return model.eval()


def save_attention(model: DecomposableAttention, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Weights, shape and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "critic.safetensors")
    pieces, width = model.words.weight.shape
    write_json(folder / "critic.json", {"kind": "decomposable attention", "pieces": pieces, "width": width})
    tokenizer.save_pretrained(folder)


def load_attention(folder: Path, name: str) -> AttentionCritic:
    """What `save_attention` saved."""
    shape = read_json(folder / "critic.json")
    model = DecomposableAttention(int(shape["pieces"]), int(shape["width"]))
    model.load_state_dict(load_file(folder / "critic.safetensors"))
    return AttentionCritic(model, load_tokenizer(folder), name)


class EncoderCritic:
    """A fine-tuned encoder that reads both sentences together.

    Raises:
        UserError: the folder's model has no class called entailment.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, name: str, max_tokens: int = 96
    ) -> None:
        names = {int(i): str(label).lower() for i, label in (model.config.id2label or {}).items()}
        found = [i for i, label in names.items() if label in ("entailment", "entails", "1", "yes")]
        require(
            len(found) == 1,
            f"the critic {name} has the classes {', '.join(names.values())}",
            "give one with a class 'entailment'",
        )
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.place, self.max_tokens = found[0], max_tokens
        self.fingerprint = content_hash([fingerprint(tokenizer), weights_hash(model)])

    def entailment(self, premises: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        """p(premise => hypothesis) from one pass of the encoder a pair."""
        if not premises:
            return np.zeros(0, np.float32)
        texts = Texts(tuple(premises), tuple(hypotheses), np.zeros(len(premises), np.int64))
        logits = predict(self.model, plain_items(encode(self.tokenizer, texts, self.max_tokens)))
        return torch.from_numpy(logits).softmax(-1)[:, self.place].numpy()


def load_encoder_critic(folder: Path) -> EncoderCritic:
    """An NLI classifier that transformers saved."""
    return EncoderCritic(to_best_device(load_classifier(folder)), load_tokenizer(folder), folder.name)


class TokenVectors:
    """MiniLM's contextual vectors of a sentence's tokens, of length 1, each sentence computed once."""

    def __init__(self, folder: Path | None = None, batch: int = 64) -> None:
        folder = folder or minilm_folder()
        self.tokenizer, self.batch = load_tokenizer(folder), batch
        self.model = to_best_device(
            AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, trust_remote_code=False)
        ).eval()
        self.known: dict[str, np.ndarray] = {}

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """[tokens, width] of every text, special tokens left out."""
        new = sorted({text for text in texts if text not in self.known}, key=len)
        for start in range(0, len(new), self.batch):
            batch = new[start : start + self.batch]
            rows = self.tokenizer(
                batch,
                padding=True,
                truncation=True,
                max_length=128,
                return_tensors="pt",
                return_special_tokens_mask=True,
            )
            special = rows.pop("special_tokens_mask").bool()
            states = self.model(**rows.to(self.model.device)).last_hidden_state.cpu()
            states = nn.functional.normalize(states, dim=-1).numpy()
            for text, row, skip in zip(batch, states, special.numpy(), strict=True):
                self.known[text] = row[~skip]
        return [self.known[text] for text in texts]


class EmbeddingCritic:
    """Cosine of the mean token vectors, 0 where it is negative."""

    name = "embedding"

    def __init__(self) -> None:
        self.vectors = TokenVectors()
        self.fingerprint = content_hash([fingerprint(self.vectors.tokenizer), weights_hash(self.vectors.model)])

    def entailment(self, premises: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        """The same in both directions."""
        x, y = (np.array([_mean(v) for v in self.vectors(side)], np.float32) for side in (premises, hypotheses))
        return np.clip((x * y).sum(-1), 0, 1) if len(x) else np.zeros(0, np.float32)


def _mean(vectors: np.ndarray) -> np.ndarray:
    mean = vectors.mean(0) if len(vectors) else np.zeros(vectors.shape[1], np.float32)
    return mean / max(1e-9, float(np.linalg.norm(mean)))
