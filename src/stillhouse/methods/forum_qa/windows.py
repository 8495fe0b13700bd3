"""Questions as windows of tokens: long passages in overlapping windows, answers as token positions, and what does not fit said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from stillhouse.core.errors import require
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.squad import Question
from stillhouse.encoders.batches import Items, join_items, plain_items
from stillhouse.encoders.tokens import Encoded

MOST_QUESTION_TOKENS = 48
FEWEST_PASSAGE_TOKENS = 16


@dataclass(frozen=True)
class Windows:
    """Windows of "[CLS] question [SEP] part of the passage [SEP]"; token 0 stands for "no answer here"."""

    items: Items
    question: np.ndarray
    """[windows] which question each belongs to."""
    begins: np.ndarray
    """[tokens] character of the passage where each token begins; -1 outside the passage."""
    stops: np.ndarray
    """[tokens] character behind each token; -1 outside the passage."""
    starts: np.ndarray
    """[windows] token where the answer begins; 0 where the window has none whole."""
    ends: np.ndarray
    """[windows] its last token."""
    cut: tuple[int, ...]
    """Questions whose answer is whole in no window."""

    def __len__(self) -> int:
        return len(self.question)

    def allowed(self, window: int) -> np.ndarray:
        """[tokens] where an answer may begin or end: the passage, and token 0."""
        first, last = self.items.first.offsets[window : window + 2]
        inside = self.begins[first:last] >= 0
        inside[0] = True
        return inside

    def take(self, index: np.ndarray) -> Windows:
        """These windows, in this order."""
        parts = [np.arange(*self.items.first.offsets[i : i + 2]) for i in index]
        place = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return Windows(
            self.items.take(index),
            self.question[index],
            self.begins[place],
            self.stops[place],
            self.starts[index],
            self.ends[index],
            self.cut,
        )


def join_windows(first: Windows, second: Windows) -> Windows:
    """The windows of two lists of questions as those of one list: the second's are numbered after the first's."""
    behind = 1 + int(first.question.max(initial=-1))

    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(first, name), getattr(second, name)])

    return Windows(
        join_items([first.items, second.items]),
        np.concatenate([first.question, second.question + behind]),
        both("begins"),
        both("stops"),
        both("starts"),
        both("ends"),
        (*first.cut, *(number + behind for number in second.cut)),
    )


def make_windows(
    tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question], max_tokens: int, stride: int
) -> Windows:
    """All windows of all questions, in order.

    Args:
        tokenizer: fast, so that it tells where each token is.
        questions: with their passages.
        max_tokens: of a window.
        stride: tokens that neighbouring windows share; an answer longer than this may be whole in none.

    Raises:
        UserError: a window is too short for a question and some passage, or the stride for the window.
    """
    if not questions:
        return _none()
    asked = [_shortened(tokenizer, q.text) for q in questions]
    most = max((n for _, n in asked), default=0) + tokenizer.num_special_tokens_to_add(pair=True)
    room = max_tokens - most
    require(
        room >= FEWEST_PASSAGE_TOKENS,
        f"windows of {max_tokens} tokens leave {room} for the passage",
        f"use --max-tokens {most + FEWEST_PASSAGE_TOKENS} or more",
    )
    require(
        stride < room,
        f"windows that share {stride} tokens do not get on in {room} tokens of passage",
        f"use --stride {room // 2}",
    )
    made = tokenizer(
        [text for text, _ in asked],
        [q.context for q in questions],
        truncation="only_second",
        max_length=max_tokens,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
        verbose=False,
    )
    owner = np.array(made["overflow_to_sample_mapping"], np.int64)
    lengths = np.array([len(row) for row in made["input_ids"]], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    begins, stops = np.full(offsets[-1], -1, np.int32), np.full(offsets[-1], -1, np.int32)
    for window, place in enumerate(offsets[:-1]):
        for token, (part, (begin, stop)) in enumerate(
            zip(made.sequence_ids(window), made["offset_mapping"][window], strict=True)
        ):
            if part == 1 and stop > begin:
                begins[place + token], stops[place + token] = begin, stop
    encoded = Encoded(
        np.fromiter((i for row in made["input_ids"] for i in row), np.int32, offsets[-1]),
        np.fromiter((i for row in made["token_type_ids"] for i in row), np.int8, offsets[-1]),
        offsets,
    )
    starts, ends = _targets(questions, owner, offsets, begins, stops)
    whole = set(owner[starts > 0].tolist())
    cut = tuple(i for i, q in enumerate(questions) if not q.impossible and i not in whole)
    return Windows(plain_items(encoded), owner, begins, stops, starts, ends, cut)


def _none() -> Windows:
    """Those of no questions; a tokenizer given nothing says nothing of offsets."""
    no = np.zeros(0, np.int64)
    encoded = Encoded(no.astype(np.int32), no.astype(np.int8), np.zeros(1, np.int64))
    return Windows(plain_items(encoded), no, no.astype(np.int32), no.astype(np.int32), no, no, ())


def _shortened(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[str, int]:
    """A question of at most `MOST_QUESTION_TOKENS` tokens, and how many it has."""
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    places = made["offset_mapping"]
    if len(places) <= MOST_QUESTION_TOKENS:
        return text, len(places)
    return text[: places[MOST_QUESTION_TOKENS - 1][1]], MOST_QUESTION_TOKENS


def _targets(
    questions: Sequence[Question], owner: np.ndarray, offsets: np.ndarray, begins: np.ndarray, stops: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First and last token of the first answer in every window that holds it whole."""
    starts, ends = np.zeros(len(owner), np.int64), np.zeros(len(owner), np.int64)
    for window, number in enumerate(owner):
        first, last = offsets[window : window + 2]
        begin, stop = begins[first:last], stops[first:last]
        for answer in questions[number].answers:
            inside = np.flatnonzero((begin >= 0) & (begin < answer.end) & (stop > answer.start))
            if len(inside) and begin[inside[0]] <= answer.start and stop[inside[-1]] >= answer.end:
                starts[window], ends[window] = inside[0], inside[-1]
                break
    return starts, ends


def training_windows(windows: Windows, share_without: float, seed: int) -> Windows:
    """Windows to train on: all that hold an answer, and of the others at most this share as many, drawn by seed.

    A question that its passage does not answer counts among the others. Questions whose answer was cut train nothing:
    "no answer" would be wrong.
    """
    answered = np.flatnonzero(windows.starts > 0)
    without = np.flatnonzero((windows.starts == 0) & ~np.isin(windows.question, windows.cut))
    most = round(share_without * len(answered))
    if len(without) > most:
        without = np.random.default_rng(derive_seed("windows", seed)).choice(without, most, replace=False)
    return windows.take(np.sort(np.concatenate([answered, without])))
