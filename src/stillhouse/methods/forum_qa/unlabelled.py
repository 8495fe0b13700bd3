"""Questions that nobody has answered, for the teacher alone: the questions of some passages asked of other passages.

Annotation is dear and a teacher's answer is not. A student that only sees the annotated pairs sees each of them several
times, and its teacher was fitted to the very same; on pairs that are new to both, the teacher shows how it reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.squad import Question

NEAR = 0.75
"""Share of questions that are on a topic the passage was asked about anyway: those it may well answer."""
TRIES = 20
"""Draws for a wanted pair; a set with few questions has not as many pairs as were asked for."""


def unlabelled_questions(train: Sequence[Question], wanted: int, seed: int) -> tuple[Question, ...]:
    """Up to so many pairs of a train question and a train passage that nobody has annotated, drawn by seed.

    Passages are drawn evenly. Most questions are on a topic of the passage's own questions: the same aspect or, where the
    set names none, the same document. The others are on whatever there is.
    """
    random = np.random.default_rng(derive_seed("unlabelled", seed))
    own: dict[str, list[Question]] = {}
    by_topic: dict[str, dict[str, None]] = {}
    for q in train:
        own.setdefault(q.context, []).append(q)
        by_topic.setdefault(_topic(q), {})[q.text] = None
    passages, texts = list(own), list(dict.fromkeys(q.text for q in train))
    near = {topic: list(found) for topic, found in by_topic.items()}
    known = {(q.context, q.text) for q in train}
    made: list[Question] = []
    for _ in range(TRIES * wanted):
        if len(made) == wanted:
            break
        asked = own[passages[int(random.integers(len(passages)))]]
        like = asked[int(random.integers(len(asked)))]
        pool = near[_topic(like)] if random.random() < NEAR else texts
        text = pool[int(random.integers(len(pool)))]
        if (like.context, text) not in known:
            known.add((like.context, text))
            made.append(Question(f"unlabelled-{len(made)}", text, like.context, (), like.group))
    return tuple(made)


def _topic(question: Question) -> str:
    return question.aspect or question.group
