"""The student as other tools take it: an encoder, and a decoder that sees its states and the words so far.

No inputs for static int8: onnxruntime cannot run the files that its static quantisation makes of T5's position bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from stillhouse.core.options import read_options
from stillhouse.core.portable import Arrays, Call, Network, Portable
from stillhouse.core.result import Metric
from stillhouse.methods.impossible.config import Config
from stillhouse.methods.impossible.domain import load_domain
from stillhouse.methods.impossible.rewriter import load_rewriter
from stillhouse.methods.impossible.seq2seq import Student, encode_examples, padded, rewrite

CHECKED = 64
LONGEST = 48
SAME = Metric(
    "same", "Same output", "higher", "Share of held-out inputs whose likeliest output, word by word, is the original's."
)
USAGE = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("FOLDER"), AutoModelForSeq2SeqLM.from_pretrained("FOLDER")
inputs = tokenizer("A sentence." + tokenizer.eos_token, add_special_tokens=False, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=48)[0], skip_special_tokens=True))"""


class Encoding(nn.Module):
    """Ids and mask [texts, tokens] to states [texts, tokens, width]."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.encoder: Any = model.get_encoder()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The encoder's last states."""
        states: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


class Decoding(nn.Module):
    """The words so far, and the encoder's states and mask, to logits [texts, words so far, pieces]."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, decoder_input_ids: Tensor, encoder_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of the word after each."""
        logits: Tensor = self.model(
            encoder_outputs=(encoder_states,),
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
        ).logits
        return logits


def portable(run: Path) -> Portable:
    """Both networks, and how often their exported forms say the same as the original of held-out sentences."""
    config = read_options(run, "impossible", Config)
    student = load_rewriter(run / "model").student
    student.model.cpu().eval()
    student.model.set_attn_implementation("eager")  # the fused kernel's strides do not survive the way to ONNX
    domain = load_domain(config)
    held_out = list(domain.report.inputs[:CHECKED])
    wanted = [some[0] for some in rewrite(student, held_out, max_new_tokens=LONGEST)]
    encoding, decoding = Encoding(student.model), Decoding(student.model)
    real = inputs_of(student, held_out, wanted)

    def quality(calls: Mapping[str, Call]) -> dict[str, float]:
        made = greedy(calls["encoder"], calls["decoder"], student, held_out)
        return {"same": float(np.mean([a == b for a, b in zip(made, wanted, strict=True)]))}

    def reopened(folder: Path) -> Sequence[nn.Module]:
        model = AutoModelForSeq2SeqLM.from_pretrained(folder)
        return [Encoding(model).eval(), Decoding(model).eval()]

    networks = (
        Network("encoder", encoding, real[0], ("encoder_states",), varying=TOKENS),
        Network("decoder", decoding, real[1], ("logits",), varying=WORDS),
    )
    return Portable(
        networks,
        {"transformers": reopened, "safetensors": reopened},
        f"{len(held_out)} held-out sentences",
        (SAME,),
        quality,
        {"transformers": USAGE},
        ("tokenizer.json", "tokenizer_config.json"),
    )


TOKENS = {"input_ids": {1: "tokens"}, "attention_mask": {1: "tokens"}}
WORDS = {
    "decoder_input_ids": {1: "words"},
    "encoder_states": {1: "tokens"},
    "attention_mask": {1: "tokens"},
}


def inputs_of(
    student: Student, inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What encoder and decoder are given for these inputs, the decoder with all words of the outputs before it."""
    examples, pad = encode_examples(student, inputs, outputs), _pad(student)
    ids = padded(examples.inputs, pad)
    mask = (ids != pad).long()
    words = padded([np.concatenate([[_start(student)], row[:-1]]) for row in examples.outputs], pad)
    with torch.no_grad():
        states = Encoding(student.model)(ids, mask)
    first = {"input_ids": ids, "attention_mask": mask}
    return first, {"decoder_input_ids": words, "encoder_states": states, "attention_mask": mask}


def greedy(encoder: Call, decoder: Call, student: Student, texts: Sequence[str]) -> list[str]:
    """The likeliest word each time, by any two calls; no state is kept between words."""
    examples, pad = encode_examples(student, texts, texts), _pad(student)
    ids = padded(examples.inputs, pad).numpy()
    mask = (ids != pad).astype(np.int64)
    states = encoder({"input_ids": ids, "attention_mask": mask})[0]
    words = np.full((len(ids), 1), _start(student), np.int64)
    going, end = np.ones(len(ids), bool), student.tokenizer.eos_token_id
    while going.any() and words.shape[1] <= LONGEST:
        given: Arrays = {"decoder_input_ids": words, "encoder_states": states, "attention_mask": mask}
        following = np.where(going, decoder(given)[0][:, -1].argmax(-1), pad)
        words = np.concatenate([words, following[:, None]], 1)
        going &= following != end
    told = student.tokenizer.batch_decode(words[:, 1:], skip_special_tokens=True)
    return [" ".join(text.split()) for text in told]


def _pad(student: Student) -> int:
    return int(student.tokenizer.pad_token_id)


def _start(student: Student) -> int:
    return int(student.model.config.decoder_start_token_id)
