"""Tokenizers: loading, comparing, pruning to what a corpus uses, and texts as ragged arrays of ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import content_hash
from stillhouse.encoders.data import Texts

SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


@dataclass(frozen=True)
class Encoded:
    """Texts as ids, one after the other: text i is `ids[offsets[i] : offsets[i + 1]]`."""

    ids: np.ndarray
    """[tokens] int32."""
    types: np.ndarray
    """[tokens] int8: 0 in the first text of a pair, 1 in the second."""
    offsets: np.ndarray
    """[texts + 1] int64."""
    truncated: int = 0
    """Texts that were longer than the limit."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """[texts] tokens of each."""
        return np.diff(self.offsets)

    def row(self, i: int) -> np.ndarray:
        """Ids of text i."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def take(self, index: np.ndarray) -> Encoded:
        """These texts, in this order."""
        lengths = self.lengths[index]
        ends = np.cumsum(lengths)
        # place of every token: its text's start here, plus how far it is into the text
        place = np.repeat(self.offsets[index] - (ends - lengths), lengths) + np.arange(int(lengths.sum()))
        return Encoded(self.ids[place], self.types[place], np.concatenate([[0], ends]))

    def mapped(self, ids: np.ndarray) -> Encoded:
        """The same texts with id k written as `ids[k]`."""
        return Encoded(ids[self.ids].astype(np.int32), self.types, self.offsets, self.truncated)


def join(parts: Sequence[Encoded]) -> Encoded:
    """Several sets of texts as one, in order."""
    lengths = np.concatenate([part.lengths for part in parts])
    return Encoded(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.types for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]),
        sum(part.truncated for part in parts),
    )


VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""Files of which a tokenizer has one."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a transformers folder.

    Raises:
        UserError: the folder has none, or only one written in Python.
    """
    # transformers makes up an empty one where a folder has a config of a known type and no vocabulary
    require(
        any((folder / name).is_file() for name in VOCABULARIES),
        f"{folder} has no tokenizer ({', '.join(VOCABULARIES[:3])} ...)",
        "save it with tokenizer.save_pretrained(folder)",
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{folder} has no tokenizer that can be read ({first_line(error)})",
            "save it with tokenizer.save_pretrained(folder)",
        ) from error
    require(
        tokenizer.is_fast, f"the tokenizer in {folder} has no tokenizer.json", "save a fast tokenizer beside the model"
    )
    require(
        tokenizer.pad_token_id is not None, f"the tokenizer in {folder} has no padding token", "give it a pad_token"
    )
    return cast(PreTrainedTokenizerFast, tokenizer)


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """The same for two tokenizers if they give every text the same ids."""
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: state.get(key) for key in ("normalizer", "pre_tokenizer", "model", "post_processor")}
    return content_hash([json.dumps(kept, sort_keys=True)])


def require_same_tokenizer(teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast, folder: Path) -> None:
    """Refuse a student that reads other ids than its teacher.

    Raises:
        UserError: the two tokenizers differ.
    """
    if fingerprint(teacher) != fingerprint(student):
        raise UserError(
            f"the tokenizer in {folder} is not the teacher's ({len(student)} pieces against {len(teacher)}, or other rules)",
            "use a student with the teacher's tokenizer, or leave --student out and let one be made",
        )


def encode(tokenizer: PreTrainedTokenizerFast, texts: Texts, max_tokens: int) -> Encoded:
    """Texts (or pairs) as ids with the tokenizer's special tokens; longer ones are cut, the longer part of a pair first."""
    pair = () if texts.second is None else (list(texts.second),)
    rows = tokenizer(list(texts.first), *pair, truncation=False, return_token_type_ids=True, verbose=False)
    long = sum(len(row) > max_tokens for row in rows["input_ids"])
    if long:
        rows = tokenizer(
            list(texts.first), *pair, truncation=True, max_length=max_tokens, return_token_type_ids=True, verbose=False
        )
    lengths = [len(row) for row in rows["input_ids"]]
    types = rows["token_type_ids"]
    return Encoded(
        np.fromiter((i for row in rows["input_ids"] for i in row), np.int32, sum(lengths)),
        np.fromiter((i for row in types for i in row), np.int8, sum(lengths)),
        np.concatenate([[0], np.cumsum(lengths)]),
        long,
    )


@dataclass(frozen=True)
class Vocabulary:
    """A student's tokenizer and which of the teacher's pieces each of its ids is."""

    tokenizer: PreTrainedTokenizerFast
    teacher_ids: np.ndarray
    """[student pieces] int64."""

    def __len__(self) -> int:
        return len(self.teacher_ids)


def whole_vocabulary(tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
    """The teacher's own tokenizer for the student too."""
    return Vocabulary(tokenizer, np.arange(len(tokenizer)))


def pruned_vocabulary(tokenizer: PreTrainedTokenizerFast, texts: Texts) -> Vocabulary:
    """The WordPiece tokenizer with only the pieces that these texts use, the special tokens and single characters.

    WordPiece takes the longest piece that fits. All pieces that it took on these texts are kept, so they are cut as
    before; a word that other texts bring is cut into smaller pieces that are known.

    Raises:
        UserError: the tokenizer is not WordPiece.
    """
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    require(
        state["model"]["type"] == "WordPiece",
        f"a {state['model']['type']} tokenizer cannot be pruned piece by piece",
        "add --no-prune-vocabulary",
    )
    old: dict[str, int] = state["model"]["vocab"]
    prefix = state["model"].get("continuing_subword_prefix", "##")
    columns = [list(texts.first), *([] if texts.second is None else [list(texts.second)])]
    used = {i for column in columns for row in tokenizer(column, verbose=False)["input_ids"] for i in row}
    used |= set(tokenizer.all_special_ids)
    single = {i for piece, i in old.items() if len(piece.removeprefix(prefix)) == 1 and piece.isascii()}
    kept = np.array(sorted(used | single), dtype=np.int64)
    new_id = {int(o): n for n, o in enumerate(kept)}
    state["model"]["vocab"] = {piece: new_id[i] for piece, i in old.items() if i in new_id}
    for token in state["added_tokens"]:
        token["id"] = new_id[token["id"]]
    _renumber(state.get("post_processor"), new_id)
    specials = {name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=tokenizer.model_max_length,
        **specials,
    )
    return Vocabulary(small, kept)


def _renumber(processor: dict[str, Any] | None, new_id: dict[int, int]) -> None:
    """Write the special tokens' new ids into a post processor."""
    for token in (processor or {}).get("special_tokens", {}).values():
        token["ids"] = [new_id[i] for i in token["ids"]]
    for key in ("sep", "cls"):
        if key in (processor or {}):
            processor[key][1] = new_id[processor[key][1]]  # type: ignore[index]


def train_wordpiece(texts: Iterable[str], pieces: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of these (training) texts alone; the same texts give the same pieces and ids."""
    words = list(texts)
    special = [SPECIAL[name] for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")]
    draft = _wordpiece(models.WordPiece(unk_token=SPECIAL["unk_token"]))
    # the trainer numbers "##a", "##b", ... in an order that changes from run to run, unless it is told them
    normalize, split = draft.normalizer.normalize_str, draft.pre_tokenizer.pre_tokenize_str
    letters = sorted({letter for text in words for word, _ in split(normalize(text)) for letter in word})
    told = [*special, *letters, *(f"##{letter}" for letter in letters)]
    draft.train_from_iterator(
        words, trainers.WordPieceTrainer(vocab_size=pieces, special_tokens=told, show_progress=False)
    )
    tokenizer = _wordpiece(models.WordPiece(vocab=draft.get_vocab(), unk_token=SPECIAL["unk_token"]))
    tokenizer.add_special_tokens(special)
    cls, sep = (cast(int, tokenizer.token_to_id(SPECIAL[name])) for name in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_tokens, **SPECIAL)


def _wordpiece(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


SPLIT_IDENTIFIERS = (r"(?<=[a-z0-9])(?=[A-Z])", r"(?<=[A-Z])(?=[A-Z][a-z])", r"(?<=[A-Za-z])(?=[0-9])")
"""Where a name is cut: parseHTML5Page is read as parse html 5 page, and "_" as a blank."""


def train_code_bpe(
    texts: Iterable[str], pieces: int, max_tokens: int, special: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A BPE tokenizer for code and words about it, of these (training) texts alone.

    Names are cut where their case changes and at underscores and put in lower case, so that `getResponseHeader`,
    `response_header` and "the response header" share pieces. Layout is not kept.
    """
    parts = [normalizers.Replace(Regex(pattern), " ") for pattern in SPLIT_IDENTIFIERS]
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.Sequence(
        [*parts, normalizers.Replace("_", " "), normalizers.NFKC(), normalizers.Lowercase()]
    )
    # words are marked in front: the trainer numbers letters with a suffix in an order that changes from run to run
    marked = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), marked])
    first = [SPECIAL[name] for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=pieces, special_tokens=[*first, *special], limit_alphabet=512, show_progress=False
        ),
    )
    cls, sep = (cast(int, tokenizer.token_to_id(SPECIAL[name])) for name in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_tokens, **SPECIAL)
