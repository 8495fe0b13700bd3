"""A classifier of marked pairs: where its head looks, and that it comes back from disk as it was."""

import pytest
import torch
from transformers import AutoModel

from stillhouse.core.errors import UserError
from stillhouse.encoders.marked_pairs import (
    HEAD,
    MarkedPairForSequenceClassification,
    marker_ids,
    marker_states,
    new_pair_classifier,
    open_classifier,
)
from stillhouse.encoders.tokens import train_wordpiece
from text_samples import some_bert

CLASSES = ("none", "causes", "treats")


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(["the cat @ gene @ sees # disease # with a dog"] * 4, 80, 32)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return MarkedPairForSequenceClassification(some_bert(len(tokenizer)).base_model, CLASSES, marker_ids(tokenizer, "@#")).eval()  # fmt: skip


def ids(tokenizer, *texts):
    return tokenizer(list(texts), padding=True, return_tensors="pt")


def test_states_are_those_of_the_first_of_each_marker_and_of_the_first_token_where_there_is_none():
    states = torch.arange(10.0).reshape(2, 5, 1)
    shown = torch.tensor([[1, 7, 9, 7, 8], [1, 2, 3, 4, 5]])
    assert marker_states(states, shown, torch.tensor([7])).tolist() == [[1.0], [5.0]]
    assert marker_states(states, shown, torch.tensor([8, 9])).tolist() == [[2.0], [5.0]], "either id is the marker"


def test_logits_are_the_equation(model, tokenizer):
    batch = ids(tokenizer, "the @ gene @ sees # disease #", "# disease # with the old @ gene @")
    states = model.encoder(**batch).last_hidden_state
    rows = batch["input_ids"].tolist()
    at, number = (tokenizer.convert_tokens_to_ids(m) for m in "@#")
    pair = torch.stack([torch.cat([h[row.index(at)], h[row.index(number)]]) for h, row in zip(states, rows, strict=True)])  # fmt: skip
    assert torch.allclose(model(**batch).logits, pair @ model.classifier.weight.T + model.classifier.bias, atol=1e-6)


def test_two_pairs_of_one_sentence_are_told_apart_by_their_markers(model, tokenizer):
    logits = model(**ids(tokenizer, "@ cat @ sees # dog # with disease", "cat sees @ dog @ with # disease #")).logits
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)


def test_a_folder_is_an_encoder_for_transformers_and_the_same_classifier_here(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    batch = ids(tokenizer, "the @ gene @ sees # disease #")
    again = open_classifier(tmp_path).eval()
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    assert again.config.id2label == dict(enumerate(CLASSES)) and again.config.num_labels == 3
    states = AutoModel.from_pretrained(tmp_path).eval()(**batch).last_hidden_state
    assert torch.allclose(states, model.encoder(**batch).last_hidden_state, atol=1e-6)
    (tmp_path / HEAD).unlink()
    with pytest.raises(UserError, match="has no pair_head"):
        open_classifier(tmp_path)


def test_a_new_head_leaves_the_word_vectors_alone(model, tokenizer, tmp_path):
    model.encoder.save_pretrained(tmp_path)
    new = new_pair_classifier(tmp_path, CLASSES, marker_ids(tokenizer, "@#"))
    new(**ids(tokenizer, "the @ gene @ sees # disease #")).logits.sum().backward()
    assert new.get_input_embeddings().weight.grad is None
    assert new.classifier.weight.grad is not None


def test_a_tokenizer_without_the_markers_is_refused():
    plain = train_wordpiece(["only letters"] * 3, 60, 32)
    with pytest.raises(UserError, match="no piece for @ or #"):
        marker_ids(plain, "@#")
