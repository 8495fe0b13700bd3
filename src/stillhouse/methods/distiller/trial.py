"""Try a distilled text classifier."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from stillhouse.core.result import Table
from stillhouse.core.trial import Output, Ready, Text, Trial, Words
from stillhouse.encoders.models import most_tokens
from stillhouse.encoders.tokens import load_tokenizer
from stillhouse.methods.distiller.single import load_student

SHOWN_CLASSES = 10


def open_run(run: Path) -> Ready:
    """The student and its tokenizer."""
    model, tokenizer = load_student(run / "model"), load_tokenizer(run / "model")
    names = {int(i): str(name) for i, name in (model.config.id2label or {}).items()}
    length = most_tokens(model.config)

    @torch.no_grad()
    def answer(text: str) -> Iterator[Output]:
        started = time.perf_counter()
        tokens = tokenizer(text, truncation=True, max_length=length, return_tensors="pt", return_token_type_ids=True)
        types = {"token_type_ids": tokens["token_type_ids"]} if getattr(model.config, "type_vocab_size", 0) > 1 else {}
        shares = model(tokens["input_ids"], attention_mask=tokens["attention_mask"], **types).logits.softmax(1)[0]
        seconds = time.perf_counter() - started
        order = shares.argsort(descending=True).tolist()
        yield Words("Class", names[order[0]], seconds)
        rows = tuple((names[i], round(float(shares[i]), 3)) for i in order[:SHOWN_CLASSES])
        yield Table("Shares of the classes", ("Class", "Share"), rows, f"{tokens['input_ids'].shape[1]} tokens.")

    return Ready({"text": Text("Text", "Return the number of items in the list.", 2000, lines=4)}, answer)


TRIALS: Mapping[str, Trial] = {
    "classify": Trial("Classify a text", "The class that the student gives, its shares and its time.", open_run)
}
