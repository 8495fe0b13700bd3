"""The reader as other tools take it: a window of question and passage to start and end scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import AutoModelForQuestionAnswering

from stillhouse.core.options import read_options
from stillhouse.core.portable import Call, Network, Portable
from stillhouse.core.result import Metric
from stillhouse.corpus.squad import Question
from stillhouse.encoders.batches import assemble
from stillhouse.encoders.portable import NAMES, TOKENIZER_FILES, Traced
from stillhouse.methods.forum_qa.config import Config
from stillhouse.methods.forum_qa.data import questions_of
from stillhouse.methods.forum_qa.losses import NEVER
from stillhouse.methods.forum_qa.metrics import score
from stillhouse.methods.forum_qa.reader import Reader, candidates, load_reader
from stillhouse.methods.forum_qa.windows import Windows

CHECKED, JUDGED, BATCH = 32, 300, 32
OUTPUTS = ("start_logits", "end_logits")
USAGE = """import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("FOLDER"), AutoModelForQuestionAnswering.from_pretrained("FOLDER")
window = tokenizer("How does it affect sleep?", "A passage.", return_tensors="pt")
with torch.no_grad():
    scores = model(**window)  # start_logits, end_logits; reader.json has the threshold of "no answer\""""


def portable(run: Path) -> Portable:
    """The reader with its tokenizer, and the F1 of its exported forms on report questions."""
    questions = questions_of(run, read_options(run, "forum_qa", Config))
    reader = load_reader(run / "model")
    traced = Traced(reader.model.cpu().eval(), OUTPUTS)
    judged = questions.report[:JUDGED]
    names = NAMES if traced.types else NAMES[:2]
    windows = reader.windows(judged)

    def quality(calls: Mapping[str, Call]) -> dict[str, float]:
        scores = scores_by(calls["model"], reader, windows, names)
        found = candidates(windows, scores, len(judged), reader.reading.max_answer_tokens)
        said = reader.predictions(judged, found)
        return {"f1": score(said, [q.golds for q in judged], [q.group for q in judged]).f1}

    return Portable(
        (
            Network(
                "model",
                traced,
                _inputs(reader, windows, np.arange(min(CHECKED, len(windows))), names),
                OUTPUTS,
                _first_windows(reader, questions.train, names),
                {name: {1: "tokens"} for name in names},
            ),
        ),
        dict.fromkeys(
            ("transformers", "safetensors"),
            lambda folder: [Traced(AutoModelForQuestionAnswering.from_pretrained(folder).eval(), OUTPUTS)],
        ),
        f"{CHECKED} windows of report questions",
        (Metric("f1", "F1", "higher", f"Of {len(judged)} report questions."),),
        quality,
        {"transformers": USAGE},
        (*TOKENIZER_FILES, "reader.json"),
    )


def _first_windows(reader: Reader, questions: Sequence[Question], names: Sequence[str]) -> dict[str, Tensor]:
    windows = reader.windows(questions[:CHECKED])
    return _inputs(reader, windows, np.arange(min(CHECKED, len(windows))), names)


def _inputs(reader: Reader, windows: Windows, index: np.ndarray, names: Sequence[str]) -> dict[str, Tensor]:
    """Ids, mask and types [windows, tokens]."""
    batch = assemble(windows.items, index, int(reader.tokenizer.pad_token_id))
    return dict(zip(names, (batch.first, batch.mask.long(), batch.types), strict=False))


def scores_by(call: Call, reader: Reader, windows: Windows, names: Sequence[str]) -> list[np.ndarray]:
    """[2, tokens] start and end scores of every window by a call; NEVER outside the passage."""
    found: list[np.ndarray] = []
    for first in range(0, len(windows), BATCH):
        index = np.arange(first, min(first + BATCH, len(windows)))
        made = call({name: values.numpy() for name, values in _inputs(reader, windows, index, names).items()})
        for row, window in enumerate(index):
            both = np.stack([side[row, : windows.items.lengths[window]] for side in made])
            found.append(np.where(windows.allowed(int(window)), both, NEVER))
    return found
