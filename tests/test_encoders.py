"""The text workbench: data, tokenizers, batches, encoders, inherited weights, cached teacher outputs, augmentation."""

import json

import numpy as np
import pytest
import torch

from stillhouse.core.errors import UserError
from stillhouse.encoders import outputs as outputs_module
from stillhouse.encoders.augmentation import Edits, mixed, read_thesaurus, synonyms, word_edits
from stillhouse.encoders.batches import Schedule, assemble, join_items, plain_items
from stillhouse.encoders.data import Texts, cut, make_data, read_texts, with_examples
from stillhouse.encoders.inherit import inherit, refit_feed_forward
from stillhouse.encoders.masked_lm import MaskedLM, refill
from stillhouse.encoders.models import Shape, forward, load_classifier, new_student, projections, shape_of
from stillhouse.encoders.outputs import Wanted, teacher_outputs
from stillhouse.encoders.public import load_texts
from stillhouse.encoders.tokens import (
    encode,
    fingerprint,
    join,
    load_tokenizer,
    pruned_vocabulary,
    require_same_tokenizer,
    whole_vocabulary,
)
from stillhouse.encoders.training import Best, Recipe, latencies, predict, score
from text_samples import some_bert, some_texts, some_tokenizer


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def write_csv(file, rows, columns=("text", "label")):
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    file.write_text("\n".join(lines), encoding="utf-8")
    return str(file)


GOOD = [(f"a word number {i}", "yes" if i % 2 else "no") for i in range(40)]


def test_file_is_split_by_class_and_always_alike(tmp_path):
    file = write_csv(tmp_path / "mine.csv", GOOD)
    data = read_texts(file)
    assert data.class_names == ("no", "yes") and not data.pairs
    assert (len(data.train), len(data.select), len(data.report)) == (28, 6, 6)
    parts = [set(t.first) for t in (data.train, data.select, data.report)]
    assert len(set.union(*parts)) == 40
    assert all(np.bincount(t.labels).tolist() == [len(t) // 2] * 2 for t in (data.train, data.select, data.report))
    assert read_texts(file).content_hash == data.content_hash


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ([*GOOD, ("no label", "")], ("text", "label"), "no label in row 41"),
        ([("a", "yes")] * 9, ("text", "label"), "only the class 'yes'"),
        ([*GOOD, ("rare", "maybe")], ("text", "label"), "class 'maybe' of .* has 1 texts"),
        (GOOD, ("text", "mood"), "--label-column: text, mood"),
        (GOOD, ("words", "label"), "--text-column: words, label"),
        ([*GOOD, ("  ", "yes")], ("text", "label"), "no text in row 41"),
        ([], ("text", "label"), "has no rows"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, rows, columns, words):
    file = write_csv(tmp_path / "mine.csv", rows, columns)
    with pytest.raises(UserError, match=words):
        read_texts(file)


def test_folder_with_unknown_label_or_single_texts_is_refused(tmp_path):
    write_csv(tmp_path / "train.csv", GOOD)
    write_csv(tmp_path / "test.csv", [("x", "yes"), ("y", "unheard")])
    with pytest.raises(UserError, match="'unheard', which is not known; the known classes are: no, yes"):
        read_texts(str(tmp_path))
    write_csv(tmp_path / "test.csv", [("x", "y", "yes")], ("text", "text2", "label"))
    with pytest.raises(UserError, match="has pairs, the train file has not"):
        read_texts(str(tmp_path))
    write_csv(tmp_path / "test.csv", [("x", "yes"), ("y", "no")])
    data = read_texts(str(tmp_path))
    assert len(data.report) == 2 and len(data.train) + len(data.select) == 40


def test_unknown_data_names_what_there_is():
    with pytest.raises(UserError, match=r"no data .unheard-of.\W.*docstrings, trec"):
        load_texts("unheard-of")


def test_named_pair_column_must_exist(tmp_path):
    file = write_csv(tmp_path / "mine.csv", GOOD)
    with pytest.raises(UserError, match="no column 'other' for the second text"):
        read_texts(file, pair_column="other")


def test_built_in_texts_need_nothing():
    data = load_texts("docstrings")
    assert len(data.class_names) == 5 and len(data.train) == 1750
    assert not any(name in text.lower() for name in data.class_names for text in data.train.first if name == "sklearn")


def test_public_sets(public_data):
    trec, rte = load_texts("trec"), load_texts("rte")
    assert (len(trec.train) + len(trec.select), len(trec.report), len(trec.class_names)) == (5452, 500, 6)
    assert rte.pairs and rte.class_names == ("entailment", "not_entailment")
    assert load_texts("cola").metric == "mcc"


def test_cut_keeps_the_classes_shares():
    texts = Texts(tuple(map(str, range(100))), None, np.array([0] * 80 + [1] * 20))
    few = cut(texts, 10)
    assert np.bincount(few.labels).tolist() == [8, 2]
    with pytest.raises(UserError, match="2 examples for 2 classes"):
        with_examples(make_data("x", *rows_of(some_texts())), 2, 0)


def rows_of(texts):
    return list(texts.first), None if texts.second is None else list(texts.second), [str(y) for y in texts.labels]


@pytest.mark.parametrize("pairs", [False, True])
def test_pruned_tokenizer_cuts_its_corpus_as_before(tmp_path, pairs):
    corpus = some_texts(60)
    whole = some_tokenizer(corpus)
    seen = some_texts(8, pairs=pairs, seed=1)
    small = pruned_vocabulary(whole, seen)
    ours, theirs = encode(small.tokenizer, seen, 30), encode(whole, seen, 30)
    assert len(small) < len(whole)
    assert np.array_equal(ours.mapped(small.teacher_ids).ids, theirs.ids)
    assert np.array_equal(ours.types, theirs.types) and np.array_equal(ours.offsets, theirs.offsets)
    if pairs:
        assert ours.types.max() == 1
    small.tokenizer.save_pretrained(tmp_path)
    assert fingerprint(load_tokenizer(tmp_path)) == fingerprint(small.tokenizer)
    new = Texts(("dogbirdly",), None, np.zeros(1, np.int64))
    pieces = encode(small.tokenizer, new, 30).ids
    assert len(pieces) > 3, "an unknown word is cut into characters"


def test_tokenizers_that_disagree_are_refused(tmp_path):
    one, two = some_tokenizer(some_texts(40)), some_tokenizer(some_texts(40, classes=4, seed=5), pieces=60)
    require_same_tokenizer(one, some_tokenizer(some_texts(40)), tmp_path)
    with pytest.raises(UserError, match="is not the teacher's"):
        require_same_tokenizer(one, two, tmp_path)


def test_long_texts_are_cut_and_counted():
    texts = some_texts(10)
    tokenizer = some_tokenizer(texts)
    free, short = encode(tokenizer, texts, 30), encode(tokenizer, texts, 5)
    assert free.truncated == 0 and short.truncated == int((free.lengths > 5).sum()) > 0
    assert short.lengths.max() == 5
    assert all(short.row(i)[-1] == tokenizer.sep_token_id for i in range(10))


def test_encoded_texts_can_be_picked_and_joined():
    texts = some_texts(9)
    encoded = encode(some_tokenizer(texts), texts, 30)
    picked = encoded.take(np.array([5, 0, 5]))
    assert all(np.array_equal(picked.row(a), encoded.row(b)) for a, b in ((0, 5), (1, 0), (2, 5)))
    both = join([encoded, picked])
    assert len(both) == 12 and np.array_equal(both.row(10), encoded.row(0))


def test_schedule_shows_every_item_once_an_epoch_and_depends_on_the_seed_alone():
    lengths = np.random.default_rng(0).integers(3, 30, 40)
    schedule, other = Schedule(lengths, 8, 1), Schedule(lengths, 8, 1)
    epoch = [schedule[i] for i in range(5)]
    assert sorted(np.concatenate(epoch).tolist()) == list(range(40))
    assert np.array_equal(other[7], schedule[7]) and not np.array_equal(schedule[0], schedule[5])
    assert len(Schedule(lengths[:3], 8, 1)[4]) == 3


@pytest.fixture
def scene():
    texts = some_texts(12, pairs=True)
    tokenizer = some_tokenizer(texts)
    model = some_bert(len(tokenizer))
    return texts, tokenizer, model, plain_items(encode(tokenizer, texts, 30), texts.labels)


def test_padding_changes_nothing(scene):
    _, _, model, items = scene
    alone = torch.cat([forward(model, assemble(items, np.array([i]), 0)).logits for i in range(4)])
    together = forward(model, assemble(items, np.arange(4), 0)).logits
    assert torch.allclose(alone, together, atol=1e-6)
    assert np.allclose(predict(model, items)[:4], together.detach(), atol=1e-6)


def test_mixing_is_of_word_vectors(scene):
    _, _, model, items = scene
    batch = assemble(items, np.arange(3), 0)
    same = forward(model, batch._replace(share=torch.full((3,), 0.4))).hidden[0]
    assert torch.allclose(same, forward(model, batch).hidden[0], atol=1e-6), "mixed with itself"
    words = model.get_input_embeddings().weight
    index = np.arange(6).reshape(2, 3)
    pair = mixed(items, 6, 0)
    got = assemble(pair, index[0], 0)
    assert ((got.share >= 0.5) & (got.share <= 1)).all() and (pair.labels == -1).all()
    by_hand = got.share[:, None, None] * words[got.first] + (1 - got.share[:, None, None]) * words[got.second]
    seen = []
    handle = model.base_model.embeddings.register_forward_pre_hook(
        lambda _m, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    forward(model, got)
    handle.remove()
    assert torch.allclose(seen[0], by_hand)


def test_student_with_all_of_its_teacher_is_its_teacher(scene):
    _, tokenizer, teacher, items = scene
    student = new_student(shape_of(teacher.config), len(tokenizer), 32, ("a", "b"), 0).eval()
    inherit(student, teacher, np.arange(len(tokenizer)), "first")
    batch = assemble(items, np.arange(5), 0)
    ours, theirs = forward(student, batch).hidden, forward(teacher, batch).hidden
    assert len(ours) == len(theirs) == 4
    assert all(torch.allclose(a[batch.mask], b[batch.mask], atol=1e-5) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("layers", "sources"), [("first", (0,)), ("spread", (2,))])
def test_inherited_layers_and_factorised_words(scene, layers, sources):
    texts, tokenizer, teacher, _ = scene
    small = pruned_vocabulary(tokenizer, texts.take([0, 1]))
    student = new_student(Shape(1, 24, 2, 16, 23), len(small), 32, ("a", "b"), 0).eval()
    inherit(student, teacher, small.teacher_ids, layers)
    got = student.base_model.encoder.layer[0].attention.self.query.weight
    assert got.equal(teacher.base_model.encoder.layer[sources[0]].attention.self.query.weight)
    items = plain_items(encode(small.tokenizer, texts.take([0, 1]), 30))
    batch = assemble(items, np.arange(2), 0)
    theirs = assemble(items.mapped(small.teacher_ids), np.arange(2), 0)
    ours = forward(student, batch).hidden[0][batch.mask]
    told = forward(teacher, theirs).hidden[0][batch.mask]
    # rank 23 of 24, and layer norm has taken out one direction already
    assert torch.nn.functional.cosine_similarity(ours, told, dim=-1).mean() > 0.93


def test_a_cut_feed_forward_part_gives_what_least_squares_can(scene):
    _, tokenizer, teacher, items = scene
    batches = [assemble(items, np.arange(i, i + 3), 0) for i in range(0, 9, 3)]
    source = teacher.base_model.encoder.layer[2]
    seen = []
    handle = source.output.register_forward_pre_hook(lambda _m, args: seen.append(args))
    for batch in batches:
        forward(teacher, batch)
    handle.remove()
    acts = torch.cat([a[batch.mask] for (a, _), batch in zip(seen, batches, strict=True)]).detach()
    whole = source.output.dense(acts).detach()
    student = new_student(Shape(1, 24, 2, 12, 24), len(tokenizer), 32, ("a", "b"), 0).eval()
    inherit(student, teacher, np.arange(len(tokenizer)), "spread")

    def missed():
        layer = student.base_model.encoder.layer[0]
        inner = torch.cat(
            [layer.intermediate(x[batch.mask]) for (_, x), batch in zip(seen, batches, strict=True)]
        ).detach()
        return float(
            ((layer.output.dense(inner).detach() - whole) ** 2).sum() / ((whole - whole.mean(0)) ** 2).sum()
        ), inner

    (share,) = refit_feed_forward(student, teacher, batches, "spread")
    measured, inner = missed()
    assert share == pytest.approx(measured, rel=1e-3), "what it says is left is left"
    centred = torch.linalg.lstsq(inner - inner.mean(0), whole - whole.mean(0)).solution
    best = ((inner - inner.mean(0)) @ centred - (whole - whole.mean(0))).square().sum() / (whole - whole.mean(0)).square().sum()  # fmt: skip
    assert float(best) <= measured + 1e-6 and measured < float(best) + 0.05
    inherit(student, teacher, np.arange(len(tokenizer)), "spread")
    assert missed()[0] > measured, "better than the strongest neurons as they are"


def test_what_cannot_be_inherited_is_said(scene):
    _, tokenizer, teacher, _ = scene
    narrow = new_student(Shape(1, 12, 2, 16, 12), len(tokenizer), 32, ("a", "b"), 0)
    with pytest.raises(UserError, match="width 12 cannot take over layers of width 24; use --init random"):
        inherit(narrow, teacher, np.arange(len(tokenizer)), "first")
    with pytest.raises(UserError, match="width 10 is not a multiple of 3 heads"):
        new_student(Shape(1, 10, 3, 16, 10), 50, 32, ("a", "b"), 0)


def test_projections_are_those_that_the_attention_is_made_of(scene):
    _, _, model, items = scene
    batch = assemble(items, np.arange(3), 0)
    query, key, _ = projections(model, batch, [1])[1]
    heads = [t.view(3, -1, 2, 12).transpose(1, 2) for t in (query, key)]
    scores = heads[0] @ heads[1].transpose(-1, -2) / 12**0.5
    by_hand = scores.masked_fill(~batch.mask[:, None, None], -1e9).softmax(-1)
    assert torch.allclose(forward(model, batch, attention=True).attention[1], by_hand, atol=1e-5)


ALL = Wanted(first_tokens=True, layers=(0, 2), attention=(1,))


def test_cached_outputs_are_the_teachers(scene, monkeypatch):
    _, tokenizer, model, items = scene
    ids = np.arange(len(tokenizer))
    parts = [items, mixed(items, 5, 0)]
    told = teacher_outputs(model, parts, ids, ALL)
    index = np.array([3, 14, 0, 12])
    batch = assemble(join_items(parts), index, 0)
    out, got = forward(model, batch, attention=True), told.batch(index)
    assert torch.allclose(got.logits, out.logits, atol=1e-5)
    assert torch.allclose(got.first_tokens, torch.stack([h[:, 0] for h in out.hidden], 1), atol=4e-3)
    assert torch.allclose(got.hidden[2][batch.mask], out.hidden[2][batch.mask], atol=4e-3)
    real = batch.mask[:, None, :, None] & batch.mask[:, None, None, :]
    assert torch.allclose(got.attention[1] * real, out.attention[1] * real, atol=2e-3)

    def not_again(*_args, **_kwargs):
        raise AssertionError("the teacher ran again")

    monkeypatch.setattr(outputs_module, "forward", not_again)
    again = teacher_outputs(model, parts, ids, Wanted(layers=(2,)), kept=ALL)
    assert again.batch(index).hidden[2].equal(got.hidden[2])
    with pytest.raises(AssertionError, match="ran again"), torch.no_grad():
        model.classifier.bias += 1
        teacher_outputs(model, parts, ids, ALL)


def test_word_edits():
    texts = some_texts(30, pairs=True)
    operations = word_edits(texts, None)
    edits = Edits(operations, {})
    for name in operations:
        made = edits.apply([name], texts, 0.3, 7)
        assert made.first != texts.first and made.second != texts.second and (made.labels == -1).all()
        assert edits.apply([name], texts, 0.3, 7).first == made.first
        assert edits.apply([name], texts, 0.3, 8).first != made.first
        lengths = [(len(a.split()), len(b.split())) for a, b in zip(texts.first, made.first, strict=True)]
        if name == "swap":
            assert all(sorted(a.split()) == sorted(b.split()) for a, b in zip(texts.first, made.first, strict=True))
        if name == "delete":
            assert all(1 <= b <= a for a, b in lengths)
        if name == "insert":
            assert all(b == a + max(1, round(0.3 * a)) for a, b in lengths)
        if name == "replace":
            assert all(a == b for a, b in lengths)
    both = edits.apply(["delete", "swap"], texts, 0.3, 7)
    assert both.first != edits.apply(["swap", "delete"], texts, 0.3, 7).first, "order matters"


def test_synonyms_come_from_the_thesaurus(tmp_path):
    file = tmp_path / "th.dat"
    file.write_text("UTF-8\nbird|1\n(noun)|fowl|song bird\nnothing|1\n(noun)|\n", encoding="utf-8")
    assert read_thesaurus(file) == {"bird": ["fowl"]}
    change = synonyms(read_thesaurus(file))
    assert change(["a", "Bird", "eats"], 0.5, np.random.default_rng(0)) == ["a", "fowl", "eats"]
    with pytest.raises(UserError, match="no thesaurus"):
        read_thesaurus(tmp_path / "none.dat")
    file.write_text("UTF-8\nnot a thesaurus\n", encoding="utf-8")
    with pytest.raises(UserError, match="not a MyThes thesaurus"):
        read_thesaurus(file)


def test_refilled_texts_keep_the_rest(scene):
    texts, tokenizer, model, _ = scene
    change = refill(MaskedLM(model).eval(), whole_vocabulary(tokenizer), 0.3, 30)
    made = change(texts.first, 5)
    assert made == change(texts.first, 5) and made != change(texts.first, 6)
    kept = [len(set(a.split()) & set(b.split())) for a, b in zip(texts.first, made, strict=True)]
    assert any(a != b for a, b in zip(texts.first, made, strict=True)) and sum(kept) > 0
    assert not any(token in text for text in made for token in ("[CLS]", "[SEP]", "[MASK]", "[PAD]"))


def test_damaged_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="no transformers model"):
        load_classifier(tmp_path / "none")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_classifier(tmp_path)
    with pytest.raises(UserError, match="has no tokenizer"):
        load_tokenizer(tmp_path / "none")


def test_scores():
    truth, guess = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    assert score("accuracy", truth, guess) == 0.75
    assert score("mcc", truth, guess) == pytest.approx(0.5774, abs=1e-4)
    assert score("macro_f1", truth, guess) == pytest.approx((2 / 3 + 0.8) / 2)


def test_best_keeps_the_earlier_of_equals(scene):
    model, best = scene[2], Best()
    for update, value in ((1, 0.5), (2, 0.7), (3, 0.7)):
        best.see(update, value, model)
    assert best.update == 2
    copy = Best()
    copy.load_state_dict(best.state_dict())
    assert copy.score == 0.7 and copy.weights.keys() == best.weights.keys()


def test_recipe_and_latency(scene):
    recipe = Recipe(100, 8, 1.0, warmup=0.1, checks=4)
    factors = [recipe.factor(i) for i in range(100)]
    assert max(factors) == 1.0 and factors[0] == pytest.approx(0.1) and factors[-1] < 0.02
    assert max(recipe.due()) == 100 and len(recipe.due()) == 4
    assert all(value > 0 for value in latencies(scene[2], scene[3]).values())
