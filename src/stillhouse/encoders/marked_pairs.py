"""An encoder that classifies a pair marked in a text: its head reads the states at the two markers, not that of [CLS].

z = W [h_a ; h_b] + b      h_a, h_b: last states at each marker's first piece

("Entity start" of Soares et al., arXiv 1906.03158; punctuation as markers: Zhou and Chen, arXiv 2102.01373.) A text in which four
names occur gives a pair of them a state of its own, which the one state of [CLS] would first have to learn to look for. A folder
holds the encoder, as any `AutoModel` opens it, and W and b beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import SequenceClassifierOutput

from stillhouse.core.errors import require
from stillhouse.encoders.models import load_classifier, load_config, load_encoder

HEAD = "pair_head.safetensors"
Ids = tuple[tuple[int, ...], ...]
"""For each marker, the ids that it can have."""


def marker_ids(tokenizer: PreTrainedTokenizerFast, markers: Sequence[str]) -> Ids:
    """The ids of markers at the start of a text and behind a word (where byte-level pieces differ).

    Raises:
        UserError: the tokenizer has no piece for a marker.
    """

    def last(text: str) -> int:
        return int(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][-1])

    found = tuple(tuple(sorted({last(m), last(f"a {m}")})) for m in markers)
    known = all(i != tokenizer.unk_token_id for ids in found for i in ids)
    require(
        known,
        f"the tokenizer has no piece for {' or '.join(markers)}",
        "use an encoder whose tokenizer knows punctuation",
    )
    return found


def marker_states(
    states: Float[Tensor, "batch tokens width"], ids: Int[Tensor, "batch tokens"], marker: Int[Tensor, " pieces"]
) -> Float[Tensor, "batch width"]:
    """The states at each text's first piece that is the marker; those of the first token where it has been cut away."""
    place = (ids[:, :, None] == marker).any(2).int().argmax(1)
    return states.gather(1, place[:, None, None].expand(-1, 1, states.shape[2])).squeeze(1)


class MarkedPairForSequenceClassification(PreTrainedModel):
    """An encoder and the head of the equation above."""

    base_model_prefix = "encoder"

    def __init__(self, encoder: Any, class_names: Sequence[str], markers: Ids) -> None:
        config = encoder.config
        config.num_labels = len(class_names)
        config.id2label, config.label2id = dict(enumerate(class_names)), {n: i for i, n in enumerate(class_names)}
        config.pair_markers = [list(ids) for ids in markers]
        super().__init__(config)
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # of [CLS]: nothing would train it
        self.encoder = encoder
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", 0.1))
        self.classifier = nn.Linear(len(markers) * config.hidden_size, len(class_names))
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        for i, ids in enumerate(markers):
            self.register_buffer(f"marker_{i}", torch.tensor(ids), persistent=False)
        self.markers = len(markers)

    def get_input_embeddings(self) -> nn.Module:
        """Word vectors."""
        return cast(nn.Module, self.encoder.get_input_embeddings())

    def forward(self, input_ids: Tensor, **given: Any) -> SequenceClassifierOutput:
        """Logits, and the encoder's hidden states and attention where they are asked for."""
        given["return_dict"] = True
        made = self.encoder(input_ids=input_ids, **given)
        found = [
            marker_states(made.last_hidden_state, input_ids, self.get_buffer(f"marker_{i}"))
            for i in range(self.markers)
        ]
        logits = self.classifier(self.dropout(torch.cat(found, dim=1)))
        return SequenceClassifierOutput(logits=logits, hidden_states=made.hidden_states, attentions=made.attentions)

    def save_pretrained(self, save_directory: Any, *args: Any, **given: Any) -> None:
        """The encoder as transformers saves it, and the head beside it."""
        self.encoder.save_pretrained(save_directory, *args, **given)
        head = {name: part.detach().cpu().contiguous() for name, part in self.classifier.state_dict().items()}
        save_file(head, Path(save_directory) / HEAD)


def new_pair_classifier(folder: Path, class_names: Sequence[str], markers: Ids) -> PreTrainedModel:
    """A pre-trained encoder with a new head; its word vectors stay as they are.

    Half of a small encoder's parameters are word vectors, most of which a few thousand texts never touch: leaving them out
    of the training takes a fifth of its time away.

    Raises:
        UserError: no such folder, damaged, or without safetensors weights.
    """
    encoder = load_encoder(folder)
    encoder.get_input_embeddings().requires_grad_(False)
    return MarkedPairForSequenceClassification(encoder, class_names, markers)


def open_classifier(folder: Path) -> PreTrainedModel:
    """A fine-tuned classifier: of marked pairs if its config names markers, else of texts.

    Raises:
        UserError: no such folder, damaged, or without safetensors weights.
    """
    config = load_config(folder)
    if not getattr(config, "pair_markers", None):
        return load_classifier(folder)
    require((folder / HEAD).is_file(), f"the classifier in {folder} has no {HEAD}", "restore the folder")
    names = [str(name) for _, name in sorted(config.id2label.items())]
    model = MarkedPairForSequenceClassification(
        load_encoder(folder), names, tuple(tuple(ids) for ids in config.pair_markers)
    )
    model.classifier.load_state_dict(load_file(folder / HEAD))
    return model
