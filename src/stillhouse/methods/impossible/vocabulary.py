"""One byte-pair vocabulary for the small teacher and student that are made here, and the control codes in it."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, END, START, UNKNOWN, MASK = "<pad>", "</s>", "<s>", "<unk>", "<mask>"
LENGTH_CODES = ("<shorter>", "<same-length>", "<longer>")
SYNTAX_CODES = ("<active>", "<passive>", "<fronted>", "<there>")
CODES = (*LENGTH_CODES, *SYNTAX_CODES)


def train_bpe(texts: Iterable[str], pieces: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of these (training) texts; it has no unknown bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, END, START, UNKNOWN, MASK, *CODES]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        pad_token=PAD,
        eos_token=END,
        bos_token=START,
        unk_token=UNKNOWN,
        mask_token=MASK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def ensure_codes(tokenizer: PreTrainedTokenizerFast) -> int:
    """Add the control codes that a tokenizer does not have; how many that were."""
    known = tokenizer.get_vocab()
    missing = [code for code in CODES if code not in known]
    return int(tokenizer.add_tokens(missing, special_tokens=True)) if missing else 0
