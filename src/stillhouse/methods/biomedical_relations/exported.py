"""The student extractor as other tools take it: ids of a marked sentence to logits of the relations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stillhouse.core.errors import require
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Metric
from stillhouse.encoders.marked_pairs import open_classifier
from stillhouse.encoders.portable import portable_encoder
from stillhouse.encoders.training import score
from stillhouse.methods.biomedical_relations.config import Config
from stillhouse.methods.biomedical_relations.encoder import Encoder, text_data
from stillhouse.methods.biomedical_relations.extraction import load_extraction
from stillhouse.methods.biomedical_relations.pipeline import data_of

STUDENT = "student"
USAGE = f"""from pathlib import Path

from stillhouse.encoders.marked_pairs import open_classifier

model = open_classifier(Path("FOLDER/{STUDENT}"))  # logits of texts like "@ gene @ is mutated in # disease # ."
# `AutoModel.from_pretrained` opens the encoder alone; its head, in pair_head.safetensors, is one linear layer"""


def portable(run: Path) -> Portable:
    """The student with its tokenizer, and the macro F1 of its exported forms on the report split's pairs.

    Raises:
        UserError: the run's student is of another family.
    """
    config, folder = read_options(run, "biomedical_relations", Config), run / "model"
    student = load_extraction(folder / STUDENT).extractor
    require(
        isinstance(student, Encoder), f"the student of {run} is not an encoder", "export a run whose student is one"
    )
    assert isinstance(student, Encoder)
    data = data_of(config)
    texts = text_data(data, data.train)

    def quality(outputs_of: Callable[[Sequence[str], Sequence[str] | None], list[np.ndarray]]) -> dict[str, float]:
        logits = outputs_of(texts.report.first, None)[0]
        return {"macro_f1": score("macro_f1", texts.report.labels, logits.argmax(1))}

    return portable_encoder(
        student.model,
        student.tokenizer,
        (texts.train.first, None),
        (texts.report.first, None),
        max_tokens=student.max_tokens,
        reopen=lambda copy: open_classifier(copy / STUDENT),
        metrics=(Metric("macro_f1", "Macro F1", "higher", "Mean over relations, pairs without one included."),),
        quality=quality,
        usage=USAGE,
        place=STUDENT,
    )
