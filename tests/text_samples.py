"""Small texts, tokenizers and encoders for tests."""

import numpy as np
from transformers import BertConfig, BertForSequenceClassification

from stillhouse.encoders.data import Texts
from stillhouse.encoders.tokens import train_wordpiece

WORDS = [
    "the",
    "a",
    "old",
    "new",
    "red",
    "cat",
    "dog",
    "bird",
    "car",
    "house",
    "runs",
    "sleeps",
    "sings",
    "eats",
    "sees",
    "slowly",
    "quickly",
    "never",
    "often",
    "with",
]


def some_texts(n=40, classes=2, pairs=False, seed=0):
    """Texts whose class decides their first word."""
    random = np.random.default_rng(seed)

    def text(c):
        return " ".join([WORDS[c], *random.choice(WORDS[4:], int(random.integers(2, 8)))])

    labels = np.arange(n) % classes
    second = tuple(text(c) for c in labels) if pairs else None
    return Texts(tuple(text(c) for c in labels), second, labels.astype(np.int64))


def some_tokenizer(texts=None, pieces=120):
    """A WordPiece tokenizer of these texts."""
    texts = texts or some_texts()
    return train_wordpiece((*texts.first, *(texts.second or ())), pieces, 32)


def some_bert(pieces, layers=3, width=24, heads=2, feed_forward=48, classes=2, positions=32):
    """A BERT with random weights, in evaluation mode."""
    config = BertConfig(
        vocab_size=pieces,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=feed_forward,
        max_position_embeddings=positions,
        num_labels=classes,
        pad_token_id=0,
        attn_implementation="eager",
    )
    return BertForSequenceClassification(config).eval()
