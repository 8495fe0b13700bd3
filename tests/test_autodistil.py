"""AutoDistil: relations, elastic slices, costs, sub-spaces, search, front, the run, its commands, bad input."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

import stillhouse
from stillhouse.cli import dispatch
from stillhouse.core.errors import UserError
from stillhouse.core.run import Run
from stillhouse.encoders.batches import assemble, plain_items
from stillhouse.encoders.corpora import load_corpus, paragraphs, sentences
from stillhouse.encoders.costs import Architecture, Published, Tables, multiply_adds, parameters
from stillhouse.encoders.elastic import ElasticBert, Extent, extent_of, load_elastic, save_elastic, to_bert
from stillhouse.encoders.layers import layer_parts
from stillhouse.encoders.models import Batch, projections
from stillhouse.encoders.relations import (
    LOSSES,
    Projections,
    fitting_heads,
    relation_kl,
    relation_loss,
    relation_mse,
    relation_scores,
    uninformed_loss,
)
from stillhouse.encoders.rewiring import inherit_from
from stillhouse.methods import autodistil
from stillhouse.methods.autodistil.config import Config
from stillhouse.methods.autodistil.family import open_family
from stillhouse.methods.autodistil.front import Bounds, Candidate, Costs, pick, plane_front, undominated
from stillhouse.methods.autodistil.lesson import open_classroom
from stillhouse.methods.autodistil.peers import hand_designed
from stillhouse.methods.autodistil.search import costs_of, search_space, stand_in
from stillhouse.methods.autodistil.spaces import home_of, parse_architecture, parse_space, sandwich
from stillhouse.methods.autodistil.superlm import SuperLM, new_network, train_superlm
from stops import stopped_and_resumed
from text_samples import some_texts, some_tokenizer

SPACES = ("small layers=2,3 heads=2 hidden=12,24 ratio=1,2", "tiny layers=1,2 heads=1,2 hidden=8,12 ratio=1.5")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def batch_of(lengths, words=60):
    """Random ids with padding behind them."""
    ids, mask = (
        torch.zeros(len(lengths), max(lengths), dtype=torch.long),
        torch.zeros(len(lengths), max(lengths)).bool(),
    )
    for row, n in enumerate(lengths):
        ids[row, :n], mask[row, :n] = torch.randint(1, words, (n,)), True
    return Batch(ids, ids, torch.ones(len(lengths)), mask, torch.zeros_like(ids))


# relations


def test_relation_loss_by_hand():
    # two tokens, one head, width 1: scores [[0, 0], [0, 1]] of the teacher, all 0 of the student
    teacher, student = torch.tensor([[[0.0], [1.0]]]), torch.zeros(1, 2, 1)
    mask = torch.ones(1, 2, dtype=torch.bool)
    p = math.e / (1 + math.e)
    second = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    found = relation_kl(relation_scores(student, 1), relation_scores(teacher, 1), mask)
    assert float(found) == pytest.approx(second / 2, rel=1e-5)
    squares = relation_mse(relation_scores(student, 1), relation_scores(teacher, 1), mask)
    assert float(squares) == pytest.approx(1 / 4)


def test_relation_heads_are_cut_from_all_heads_side_by_side():
    states = torch.arange(12.0).reshape(1, 2, 6)
    scores = relation_scores(states, 3)
    a, b = states[0, 0, 2:4], states[0, 1, 2:4]
    assert scores.shape == (1, 3, 2, 2) and float(scores[0, 1, 0, 1]) == pytest.approx(float(a @ b) / 2**0.5)


@pytest.mark.parametrize("kind", LOSSES)
def test_padding_changes_no_relation_loss_and_its_gradient_is_finite(kind):
    def both(tokens):
        torch.manual_seed(1)
        ours, theirs = torch.randn(2, 4, 8), torch.randn(2, 4, 12)
        fill = torch.full((2, tokens - 4, 1), 7.0)
        pad = lambda x: torch.cat([x, fill.expand(-1, -1, x.shape[-1])], 1).requires_grad_()  # noqa: E731
        mask = torch.arange(tokens) < torch.tensor([[4], [3]])
        student = Projections(pad(ours), pad(ours + 1), pad(ours * 2))
        loss = relation_loss(student, Projections(pad(theirs), pad(theirs), pad(theirs)), mask, 4, kind)
        loss.backward()
        assert all(s.grad.isfinite().all() for s in student)
        return float(loss.detach())

    assert both(4) == pytest.approx(both(9), rel=1e-5)


def test_equal_relations_have_no_loss_and_a_shift_of_scores_changes_kl_nothing():
    states = torch.randn(2, 5, 8)
    mask = torch.ones(2, 5, dtype=torch.bool)
    scores = relation_scores(states, 2)
    assert float(relation_kl(scores + 3, scores, mask)) == pytest.approx(0, abs=1e-6)
    assert float(relation_mse(scores + 3, scores, mask)) == pytest.approx(9, rel=1e-4)
    same = Projections(states, states, states)
    assert float(relation_loss(same, same, mask, 2)) == pytest.approx(0, abs=1e-6)
    assert float(uninformed_loss(Projections(*(torch.zeros(2, 5, 8),) * 3), mask, 2)) == pytest.approx(0, abs=1e-6)


def test_relation_heads_that_fit():
    assert fitting_heads([384, 240, 72], 12) == 12 and fitting_heads([384, 100], 12) == 4
    with pytest.raises(UserError, match="no common number of relation heads"):
        fitting_heads([7, 9], 4)


# costs


def test_published_formulas_give_the_published_sizes():
    formula = Published()
    assert formula.parameters(12, 12, 768, 4) == pytest.approx(109.48e6, rel=1e-4)
    assert formula.multiply_adds(12, 12, 768, 4) == pytest.approx(11.25e9, rel=1e-3)
    ends = [(9, 9, 544, 2.5), (12, 12, 640, 4), (9, 7, 256, 2.5), (12, 10, 352, 4), (4, 7, 128, 2), (7, 10, 224, 3.5)]
    sizes = [39_211_248, 79_357_440, 12_609_408, 28_203_648, 4_437_504, 10_710_672]
    assert [round(formula.parameters(*end)) for end in ends] == sizes
    assert formula.of(Architecture(7, 10, 160, 560))[0] == pytest.approx(6.89e6, rel=2e-3)


def test_true_costs_are_those_of_the_modules():
    shape, tables = Architecture(2, 3, 12, 20), Tables(50, 16, 2)
    model = to_bert(ElasticBert(extent_of([shape], 4), tables, 0), shape)
    assert parameters(shape, tables) == sum(p.numel() for p in model.parameters())
    model.set_attn_implementation("eager")  # whose products are counted
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(1, 9, dtype=torch.long))
    assert counter.get_total_flops() == 2 * multiply_adds(shape, 9)
    assert costs_of(shape, tables).bytes == 4 * parameters(shape, tables)


# elastic slices


EXTENT = Extent(layers=6, heads=4, hidden=24, feed_forward=48)
SLICES = [Architecture(6, 4, 24, 48), Architecture(4, 2, 24, 31), Architecture(2, 2, 16, 24), Architecture(1, 1, 8, 8)]


@pytest.mark.parametrize("shape", SLICES, ids=str)
def test_exported_slice_is_an_ordinary_bert_and_equal(tmp_path, shape):
    network, batch = ElasticBert(EXTENT, Tables(60, 16, 2), 0), batch_of([7, 4, 9])
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    to_bert(network, shape).save_pretrained(tmp_path)
    opened = AutoModel.from_pretrained(tmp_path).eval()
    assert type(opened) is BertModel and opened.config.hidden_size == shape.hidden
    made = opened(input_ids=batch.first, attention_mask=batch.mask.long()).last_hidden_state
    assert torch.allclose(network(shape, batch)[batch.mask], made[batch.mask], atol=1e-5)
    ours = network.last_projections(shape, batch)
    theirs = projections(opened, batch, [shape.layers - 1])[shape.layers - 1]
    assert all(torch.allclose(o[batch.mask], t[batch.mask], atol=1e-5) for o, t in zip(ours, theirs, strict=True))


def test_slices_are_top_left_and_layers_are_spread_in_whole_numbers():
    network = ElasticBert(EXTENT, Tables(60, 16, 2), 0)
    numbers = {id(layer): i for i, layer in enumerate(network.layers)}
    chosen = [[numbers[id(one)] for one in network.chosen_layers(Architecture(n, 1, 8, 8))] for n in (1, 2, 4, 5, 6)]
    assert chosen == [[0], [0, 3], [0, 1, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]
    layer = network.layers[0]
    few, many = layer.sliced(Architecture(1, 1, 8, 5)), layer.sliced(Architecture(1, 4, 8, 5))
    assert few.qkv[8 + 2].equal(layer.qkv[1, 1, 0, :8]), (
        "keys behind queries, the second head after 2 columns of the first"
    )
    assert few.inner.equal(layer.inner[:5, :8]) and few.out[:, 3].equal(layer.out[:8, 1, 1])
    assert all(a.equal(b) for a, b in zip(few, many, strict=True)), "heads are another grouping of the same columns"


def test_only_what_a_slice_reads_gets_a_gradient():
    network, batch = ElasticBert(EXTENT, Tables(60, 16, 2), 0), batch_of([5, 5])
    shape = Architecture(2, 2, 8, 8)
    theirs = Projections(*(torch.randn(2, 5, 24) for _ in range(3)))
    relation_loss(network.last_projections(shape, batch), theirs, batch.mask, 4).backward()
    first, last, between = network.layers[0], network.layers[3], network.layers[1]
    assert bool(first.inner.grad[:8, :8].any()) and not bool(
        first.inner.grad[8:].any() or first.inner.grad[:, 8:].any()
    )
    assert last.out.grad is None and last.inner.grad is None, "nothing behind the compared layer is computed"
    assert bool(last.qkv.grad.any()) and between.qkv.grad is None


def teacher_like(kind, **changes):
    size = {
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 60,
        "max_position_embeddings": 20,
        **changes,
    }
    kinds = {
        "bert": (BertConfig, BertModel),
        "roberta": (RobertaConfig, RobertaModel),
        "electra": (ElectraConfig, ElectraModel),
        "mpnet": (MPNetConfig, MPNetModel),
    }
    config, model = kinds[kind]
    if kind == "electra":
        size = {"embedding_size": 24, **size}
    made = model(config(**size)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_inherited_super_network_at_full_size_is_its_teacher(kind):
    teacher = teacher_like(kind)
    pad = teacher.config.pad_token_id
    tables = Tables(60, 16, max(1, teacher.config.type_vocab_size))
    whole = Architecture(3, 4, 24, 48)
    network = ElasticBert(extent_of([whole], 3), tables, pad, teacher.config.hidden_act, teacher.config.layer_norm_eps)
    inherit_from(network, teacher)
    batch = batch_of([6, 6])
    batch = batch._replace(first=batch.first.clamp_min(3))
    theirs = teacher(input_ids=batch.first, attention_mask=batch.mask.long()).last_hidden_state
    assert torch.allclose(network(whole, batch), theirs, atol=2e-5)


def test_heads_begin_as_the_first_columns_of_the_teachers_and_neurons_the_strongest_first():
    teacher = teacher_like("bert")
    network = ElasticBert(extent_of([Architecture(1, 4, 12, 8)], 3), Tables(60, 16, 2), 0)
    inherit_from(network, teacher)
    source = layer_parts(teacher)[0]
    assert network.layers[0].qkv[0, 1].equal(source.query.weight.view(4, 6, 24)[1, :3, :12])
    strength = source.inner.weight.norm(dim=1) * source.outer.weight.norm(dim=0)
    assert network.layers[0].inner[0].equal(source.inner.weight[strength.argmax(), :12])


def test_factorised_word_vectors_are_multiplied_out():
    teacher = teacher_like("electra", embedding_size=8)
    network = ElasticBert(extent_of([Architecture(2, 2, 12, 8)], 3), Tables(60, 16, 2), 0)
    inherit_from(network, teacher)
    whole = teacher.embeddings.word_embeddings.weight @ teacher.embeddings_project.weight.T
    assert torch.allclose(network.words, whole[:, :12], atol=1e-6)


def test_queries_of_mpnet_are_found_and_of_distilbert_refused():
    teacher = teacher_like("mpnet")
    inherit_from(ElasticBert(extent_of([Architecture(2, 2, 12, 24)], 3), Tables(60, 16, 1), 1), teacher)
    assert layer_parts(teacher)[1].query is teacher.encoder.layer[1].attention.attn.q
    with pytest.raises(UserError, match="queries, keys and values of a distilbert model cannot be read"):
        layer_parts(DistilBertModel(DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8, vocab_size=20)))


def test_architecture_outside_the_super_network_is_refused():
    network = ElasticBert(EXTENT, Tables(60, 16, 2), 0)
    for shape, words in (
        (Architecture(2, 5, 24, 8), "24 is not divisible by 5 heads; use hidden 20, 25"),
        (Architecture(2, 3, 24, 8), "3 heads cannot be made of 4; use a divisor of 4"),
        (Architecture(2, 2, 10, 8), "10 is not divisible by 4 heads; use hidden 8, 12"),
        (Architecture(7, 2, 8, 8), "layers 7, the super-network 6"),
        (Architecture(2, 2, 24, 64), "feed_forward 64"),
    ):
        with pytest.raises(UserError, match=words):
            to_bert(network, shape)
    with pytest.raises(UserError, match="the largest architecture has 6 layers, the teacher 3"):
        inherit_from(network, teacher_like("bert"))


def test_stored_super_network_is_the_same(tmp_path):
    network, batch = ElasticBert(EXTENT, Tables(60, 16, 2), 3, "relu", 1e-5), batch_of([4])
    save_elastic(network, tmp_path / "a.safetensors")
    again = load_elastic(tmp_path / "a.safetensors")
    assert again(SLICES[1], batch).equal(network(SLICES[1], batch)) and again.pad_id == 3
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="is not a super-network"):
        load_elastic(tmp_path / "b.safetensors")


# sub-spaces


def test_sizes_are_whole_numbers():
    space = parse_space("published layers=9,10,11,12 heads=8 hidden=768,352 ratio=17/24,2.5")
    assert space.size == 16 and space.largest == Architecture(12, 8, 768, 1920)
    assert space.at(9, 8, 768, Fraction(17, 24)).feed_forward == 544, "0.708 in floating point gives 543"
    assert len(set(space.all())) == 16 and all(space.holds(shape) for shape in space.all())
    assert not space.holds(Architecture(9, 8, 768, 543))


def test_sandwich_has_both_ends_and_is_a_function_of_the_update():
    space = parse_space(SPACES[0])
    drawn = [sandwich(space, 0, update, 2) for update in range(40)]
    assert all(d[:2] == [space.largest, space.smallest] and len(set(d)) == 4 for d in drawn)
    assert drawn == [sandwich(space, 0, update, 2) for update in range(40)]
    assert {shape for d in drawn for shape in d} == set(space.all())
    assert sandwich(space, 1, 0, 2) != drawn[0] or sandwich(space, 1, 1, 2) != drawn[1]
    assert len(sandwich(parse_space("one layers=1 heads=1 hidden=8 ratio=1"), 0, 0, 2)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tiny layers=2 heads=2 hidden=8", "does not name layers, heads, hidden, ratio"),
        ("tiny layers=two heads=2 hidden=8 ratio=1", "not a number"),
        ("tiny layers=2 heads=0 hidden=8 ratio=1", "size of 0"),
        ("../up layers=2 heads=2 hidden=8 ratio=1", "cannot be called '../up'"),
        ("tiny layers=2 heads=2,3 hidden=12 ratio=1", "2 heads cannot be made of 3"),
        ("tiny layers=2 heads=5 hidden=12 ratio=1", "hidden 12 is not divisible by 5 heads; use hidden 10, 15"),
    ],
)
def test_malformed_sub_spaces_are_refused(text, words):
    with pytest.raises(UserError, match=words):
        Config(spaces=(text,))


def test_wrong_options_are_refused():
    for options, words in (
        ({"batch": 0}, "batch is 0"),
        ({"teacher_layer": 2}, "count from the end"),
        ({"spaces": (SPACES[0],) * 2}, "called 'small'"),
    ):
        with pytest.raises(UserError, match=words):
            Config(**options)


def test_architectures_are_read_and_have_a_home():
    spaces = [parse_space(text) for text in SPACES]
    assert home_of(parse_architecture("l3-a2-h24-f48"), spaces).name == "small"
    for text, words in (
        ("L3-A2-H24-F47", "outside every sub-space"),
        ("L3-A5-H24-F48", "not divisible"),
        ("3 layers", "no architecture"),
    ):
        with pytest.raises(UserError, match=words):
            home_of(parse_architecture(text), spaces)


# search and front


def candidate(layers, hidden, loss, latency=0.0):
    shape = Architecture(layers, 1, hidden, hidden)
    costs = costs_of(shape, Tables(50, 16, 2))
    return Candidate("s", shape, loss, Costs(costs.multiply_adds, costs.parameters, costs.bytes, latency))


def test_front_keeps_what_can_be_the_best_under_some_bound():
    deep, wide, worse, small = candidate(4, 8, 1.0), candidate(2, 16, 1.1), candidate(4, 16, 1.05), candidate(2, 8, 2.0)
    kept = undominated([worse, deep, small, wide])
    assert set(kept) == {deep, wide, small}, "the larger one with the higher loss is nobody's answer"
    assert wide in kept and plane_front([deep, wide, small]) == [small, deep], "wide may be the fastest all the same"


def test_pick_and_the_nearest_where_nothing_is_within():
    rows = [candidate(1, 8, 3.0, 0.001), candidate(2, 16, 2.0, 0.004), candidate(4, 16, 1.0, 0.009)]
    assert pick(rows, Bounds(latency_seconds=0.005)) is rows[1] and pick(rows, Bounds()) is rows[2]
    assert pick(rows, Bounds(latency_seconds=0.005, parameters=rows[0].costs.parameters)) is rows[0]
    with pytest.raises(UserError, match=r"within 0.50 ms; the nearest is L1-A1-H8-F8 \(.*1.00 ms\)"):
        pick(rows, Bounds(latency_seconds=0.0005))


class MadeUpExam:
    """Loss falls with size and has its least where the ratio is 2."""

    def loss(self, _network, shape):
        return 1 / shape.layers + 8 / shape.hidden + abs(shape.feed_forward / shape.hidden - 2)


def made_up(text):
    return SuperLM(parse_space(text), ElasticBert(EXTENT, Tables(50, 16, 2), 0), 0.0, 0)


def test_small_space_is_scored_whole_and_large_by_evolution(tmp_path, monkeypatch):
    whole, _ = search_space(made_up(SPACES[0]), MadeUpExam(), 100, 0, tmp_path / "a.jsonl", True)
    assert {c.shape for c in whole} == set(parse_space(SPACES[0]).all())
    most, _ = search_space(made_up(SPACES[0]), MadeUpExam(), 7, 0, tmp_path / "most.jsonl", True)
    assert len({c.shape for c in most}) == 7 and parse_space(SPACES[0]).largest in {c.shape for c in most}
    layers, hidden, ratios = (",".join(map(str, range(1, n))) for n in (7, 25, 12))
    large = f"large layers={layers} heads=1 hidden={hidden} ratio={ratios}"
    monkeypatch.setattr("stillhouse.methods.autodistil.search.BROOD", 16)
    found, _ = search_space(made_up(large), MadeUpExam(), 96, 0, tmp_path / "b.jsonl", True)
    assert len({c.shape for c in found}) == 96
    random_ones, _ = search_space(made_up(large), MadeUpExam(), 16, 0, tmp_path / "c.jsonl", True)
    share = [np.mean([c.shape.feed_forward == 2 * c.shape.hidden for c in part]) for part in (random_ones, found[48:])]
    assert share[1] > 2 * share[0], "children of the front go where the loss is low"


def test_killed_search_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr("stillhouse.methods.autodistil.search.BROOD", 3)
    one = made_up("large layers=1,2,3,4,5,6 heads=1 hidden=4,8,12,16,20,24 ratio=1,2,3,4")
    straight, _ = search_space(one, MadeUpExam(), 20, 0, tmp_path / "a.jsonl", True)
    exam, asked = MadeUpExam(), []

    class Killed(MadeUpExam):
        def loss(self, network, shape):
            asked.append(shape)
            if len(asked) == 11:
                raise KeyboardInterrupt
            return exam.loss(network, shape)

    with pytest.raises(KeyboardInterrupt):
        search_space(one, Killed(), 20, 0, tmp_path / "b.jsonl", True)
    again, _ = search_space(one, exam, 20, 0, tmp_path / "b.jsonl", True)
    assert again == straight
    with pytest.raises(UserError, match="is of another search"):
        search_space(one, exam, 20, 1, tmp_path / "b.jsonl", True)


def test_students_by_hand_are_within_the_budget():
    teacher = Architecture(6, 12, 384, 1536)
    found = hand_designed(teacher, multiply_adds(teacher) * 10 // 27, 12)
    assert found["by hand: full width, fewer layers"] == Architecture(2, 12, 384, 1536)
    assert all(multiply_adds(s) <= multiply_adds(teacher) / 2.7 and s.hidden % s.heads == 0 for s in found.values())
    assert (
        found["by hand: all layers, narrower"].layers == 6 and found["by hand: half the layers, narrower"].layers == 3
    )
    assert "by hand: full width, fewer layers" not in hand_designed(teacher, multiply_adds(teacher) // 10, 12)


def test_stand_in_for_latency_has_the_modules_of_the_student():
    model = stand_in(Architecture(2, 3, 12, 20), 9)
    assert all(p.isfinite().all() for p in model.parameters())
    assert model(input_ids=torch.ones(1, 9, dtype=torch.long)).last_hidden_state.shape == (1, 9, 12)


# texts


def test_corpus_from_a_folder_keeps_its_splits_apart(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("\n\n".join(f"a paragraph\n number {i}" for i in range(30)), encoding="utf-8")
    (tmp_path / "deep" / "b.txt").write_text("\n".join(f"line {i}" for i in range(20)), encoding="utf-8")
    corpus = load_corpus(str(tmp_path))
    parts = [set(p) for p in (corpus.train, corpus.select, corpus.report)]
    assert [len(p) for p in parts] == [40, 5, 5] and len(set.union(*parts)) == 50
    assert "a paragraph number 3" in set.union(*parts) and load_corpus(str(tmp_path)) == corpus
    joined = load_corpus(f"{tmp_path}+{tmp_path / 'a.txt'}", most_train=12, most_held=3)
    parts = [set(p) for p in (joined.train, joined.select, joined.report)]
    assert [len(p) for p in parts] == [12, 3, 3] and len(set.union(*parts)) == 18


def test_texts_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "a.md").write_text("x", encoding="utf-8")
    (tmp_path / "few.txt").write_text("one\ntwo", encoding="utf-8")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x80")
    for data, words in (
        (tmp_path / "a.md", "is not a .txt file"),
        (tmp_path / "few.txt", "2 texts cannot be split"),
        (tmp_path / "bytes.txt", "cannot be read as UTF-8"),
        ("unheard", "no texts 'unheard'; give .*docstrings.*medquad"),
    ):
        with pytest.raises(UserError, match=words):
            load_corpus(str(data))


def test_paragraphs_and_sentences():
    assert paragraphs("one\ntwo\n\n three ") == ["one two", "three"] and paragraphs("a\nb\n") == ["a", "b"]
    assert sentences("This one has five words. No. And this one has them too!") == [
        "This one has five words.",
        "And this one has them too!",
    ]


def test_prose_with_a_public_home(public_data):
    corpus = load_corpus("medquad", most_train=50, most_held=20)
    assert (len(corpus.train), len(corpus.select), len(corpus.report)) == (50, 20, 20)


# the run


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    """A small BERT and texts that it has words for."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    texts = some_texts(120, classes=4)
    tokenizer = some_tokenizer(texts, pieces=90)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    model = BertModel(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = "\n".join(["text,label", *(f"{t},{c}" for t, c in zip(texts.first, texts.labels, strict=True))])
    (folder / "task.csv").write_text(rows, encoding="utf-8")
    (folder / "texts.txt").write_text("\n".join(dict.fromkeys(texts.first)), encoding="utf-8")
    return folder


@pytest.fixture
def options(teacher_folder):
    return {
        "data": str(teacher_folder / "texts.txt"),
        "teacher": str(teacher_folder),
        "spaces": SPACES,
        "held_texts": 10,
        "max_tokens": 12,
        "updates": 4,
        "batch": 8,
    }


@pytest.fixture(scope="module")
def finished(teacher_folder, tmp_path_factory):
    """One finished run with a task."""
    out = tmp_path_factory.mktemp("finished") / "run"
    return stillhouse.run(
        "autodistil",
        out=out,
        quiet=True,
        data=str(teacher_folder / "texts.txt"),
        teacher=str(teacher_folder),
        spaces=SPACES,
        held_texts=10,
        max_tokens=12,
        updates=60,
        batch=8,
        task=str(teacher_folder / "task.csv"),
        task_updates=4,
    )


def test_run_teaches_and_ends_in_arms_that_are_costed_alike(finished):
    result = finished.result
    arms = {arm.name: arm for arm in result.arms}
    student, cut = arms["student, cut from its super-network"], arms["the same architecture, cut from the teacher"]
    assert student.metrics["relations_kept"] > cut.metrics["relations_kept"], "training helped"
    assert {a.role for a in result.arms} == {"teacher", "student", "baseline", "floor"}
    assert all("score" in a.metrics for a in result.arms)
    assert "by hand: all layers, narrower" in arms and "the same architecture, distilled alone" in arms
    assert student.cost.training_seconds >= sum(row[6] + row[7] for row in result.tables[1].rows) - 0.2
    assert student.cost.parameters == sum(p.numel() for p in stillhouse.load(finished.folder).parameters())
    stages = [line["stage"] for line in finished.records()]
    assert {"super-network small", "super-network tiny"} <= set(stages)
    losses = [line["relations"] for line in finished.records(stage="super-network small")]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_saved_student_is_the_slice_and_opens_with_its_tokenizer(finished):
    family = open_family(finished.folder)
    shape = parse_architecture(
        family.pick(max_flops=family.front.teacher_costs.multiply_adds * 10 // 27).shape.__str__()
    )
    network = load_elastic(
        next((finished.model_folder / "super").glob(f"{home_of(shape, [parse_space(s) for s in SPACES]).name}*"))
    )
    model = AutoModel.from_pretrained(finished.model_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(finished.model_folder)
    given = tokenizer(["the old cat sleeps", "a bird"], padding=True, return_tensors="pt")
    batch = Batch(
        given["input_ids"],
        given["input_ids"],
        torch.ones(2),
        given["attention_mask"].bool(),
        torch.zeros_like(given["input_ids"]),
    )
    made = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    assert torch.allclose(network(shape, batch)[batch.mask], made[batch.mask], atol=1e-5)


def test_teachers_relations_from_the_cache_are_those_of_the_teacher(options):
    room = open_classroom(Config(**options, teacher_layer=-2), torch.device("cpu"))
    index = np.arange(6)
    batch, cached = room.lesson.batch(index, torch.device("cpu"))
    teacher = room.teacher.model
    live = projections(teacher, batch, [1])[1]
    assert room.teacher.layer == 1
    assert all(torch.allclose(c[batch.mask], f[batch.mask], atol=2e-2) for c, f in zip(cached, live, strict=True))
    whole = Projections(*(torch.zeros_like(p) for p in cached))
    heads = room.lesson.relation_heads
    told = [relation_loss(whole, room.teacher.projections(room.lesson.told.batch(index).hidden[1]), batch.mask, heads)]
    assert float(told[0]) == pytest.approx(float(uninformed_loss(cached, batch.mask, heads)), rel=1e-5)


@torch.no_grad()
def test_search_scores_are_the_relation_losses_of_the_exported_students(finished, options):
    family = open_family(finished.folder)
    room = open_classroom(Config(**options), torch.device("cpu"))
    one = family.front.front[0]
    student, layer = family.student(one), one.shape.layers - 1
    total = tokens = 0
    for batch, theirs in room.select.batches:
        ours = projections(student, batch, [layer])[layer]
        parts = [
            relation_kl(relation_scores(o, room.select.relation_heads), t, batch.mask)
            for o, t in zip(ours, theirs, strict=True)
        ]
        total, tokens = total + float(sum(parts)) * int(batch.mask.sum()), tokens + int(batch.mask.sum())
    assert one.loss == pytest.approx(total / tokens, rel=1e-4)


@pytest.mark.parametrize(
    ("stage", "update"),
    [("super-network small", 2), ("super-network tiny", 1), ("the same architecture, distilled alone", 2)],
)
def test_stopped_stage_resumes_to_the_same_students(options, tmp_path, monkeypatch, stage, update):
    given = {**options, "spaces": SPACES}
    if not hasattr(test_stopped_stage_resumes_to_the_same_students, "straight"):
        made = stillhouse.run("autodistil", out=tmp_path / "straight", quiet=True, **given)
        test_stopped_stage_resumes_to_the_same_students.straight = files_of(made)
    resumed = stopped_and_resumed("autodistil", given, tmp_path / "run", stage, update, monkeypatch)
    assert files_of(resumed) == test_stopped_stage_resumes_to_the_same_students.straight


def files_of(run):
    files = run.model_folder.rglob("*.safetensors")
    losses = [line for f in sorted((run.folder / "search").glob("*")) for line in f.read_text().splitlines()[1:]]
    metrics = [{**arm.metrics, "name": arm.name} for arm in run.result.arms]
    return {str(f.relative_to(run.folder)): f.read_bytes() for f in files}, losses, metrics


def test_word_vectors_stay_or_are_trained(options, tmp_path):
    for trained in (False, True):
        config = Config(**options, train_words=trained)
        room = open_classroom(config, torch.device("cpu"))
        with Run.create("autodistil", {"seed": 0}, out=tmp_path / str(trained), quiet=True) as run:
            one = train_superlm(config.parsed()[0], room.lesson, config, run)
        first = new_network(room.teacher, one.network.extent, "teacher", 0, "small")
        assert one.network.words.equal(first.words) != trained
        assert not one.network.layers[0].qkv.equal(first.layers[0].qkv)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_flops": 10}, r"no student is within 0.0 million multiply-adds; the nearest is L1-A1-H8-F12"),
        ({"max_parameters": 100}, "no student is within 100 parameters; the nearest"),
        ({"batch": 4000}, "texts to learn from, a batch 4000; give more text, or use --batch"),
        ({"max_tokens": 64}, "reads 32; use --max-tokens 32"),
        ({"teacher_layer": -4}, "the teacher has 3 layers"),
        ({"relation_heads": 5}, "5 relation heads do not divide width 24"),
        ({"spaces": ("s layers=4 heads=2 hidden=12 ratio=1",)}, "space s has 4 layers, the teacher 3"),
        ({"spaces": ("s layers=2 heads=2 hidden=36 ratio=1",)}, "36 hidden, the teacher 24"),
        ({"task": "unheard.csv"}, "no data 'unheard.csv'"),
        ({"teacher": "nowhere"}, "no transformers model in nowhere"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(options, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        stillhouse.run("autodistil", out=tmp_path / "run", quiet=True, **{**options, **changes})
    assert not (tmp_path / "run").exists()


def test_teacher_without_queries_is_refused(options, tmp_path, teacher_folder):
    model = DistilBertModel(DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8, vocab_size=20))
    model.save_pretrained(tmp_path / "teacher")
    with pytest.raises(UserError, match="of a distilbert model cannot be read; give a teacher of type bert"):
        stillhouse.run(
            "autodistil", out=tmp_path / "run", quiet=True, **{**options, "teacher": str(tmp_path / "teacher")}
        )


# commands


def told(capsys, *words):
    dispatch(["autodistil", *map(str, words)])
    return capsys.readouterr().out


def test_pick_answers_from_the_stored_front(finished, capsys, tmp_path):
    all_ = json.loads(told(capsys, "front", finished.folder, "--json"))
    bound = sorted(row["latency_ms"] for row in all_)[len(all_) // 2]
    row = json.loads(told(capsys, "pick", finished.folder, "--max-latency-ms", bound, "--json"))
    assert row["latency_ms"] <= bound
    assert row["relations_kept"] == max(r["relations_kept"] for r in all_ if r["latency_ms"] <= bound)
    assert row["parameters"] != row["parameters_published_formula"]
    words = told(capsys, "pick", finished.folder, "--architecture", row["architecture"], "--out", tmp_path / "student")
    assert row["architecture"] in words and "published formulas" in words
    model = AutoModel.from_pretrained(tmp_path / "student")
    assert sum(p.numel() for p in model.parameters()) == row["parameters"]
    assert row["architecture"] in told(capsys, "front", finished.folder) or len(all_) > 1


def test_wrong_picks_are_refused(finished, capsys, tmp_path):
    for words, message in (
        (("pick", finished.folder, "--max-latency-ms", 0.00001), "no student is within 0.00 ms; the nearest is"),
        (("pick", finished.folder, "--architecture", "L9-A2-H12-F12"), "outside every sub-space"),
        (("pick", finished.folder, "--architecture", "L2-A5-H12-F12"), "not divisible by 5 heads"),
        (("pick", tmp_path), "is not a run folder"),
        (("pick", finished.folder, "--out", finished.folder), "is not an empty folder"),
    ):
        with pytest.raises(UserError, match=message):
            dispatch(["autodistil", *map(str, words)])


def test_onnx_file_is_the_student_and_eight_bits_are_close(finished, capsys, tmp_path):
    onnx = pytest.importorskip("onnxruntime")
    row = json.loads(
        told(capsys, "pick", finished.folder, "--out", tmp_path / "small", "--format", "onnx-int8", "--json")
    )
    assert row["largest_difference"] < 1e-4 and row["int8_cosine"] > 0.98
    assert [f.name for f in (tmp_path / "small").glob("*.onnx")] == ["model-int8.onnx"]
    session = onnx.InferenceSession(str(tmp_path / "small" / "model-int8.onnx"))
    ids = np.ones((3, 5), np.int64)
    (states,) = session.run(None, {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0})
    assert states.shape == (3, 5, row["hidden"])


def test_preset_and_estimate(options):
    paper = autodistil.PRESETS["paper"]
    assert [space.size for space in paper.parsed()] == [128, 192, 192]
    stages = autodistil.estimate(Config(**options)).stages
    assert [s.name for s in stages][:2] == ["teacher states", "super-network small"] and all(
        s.seconds > 0 for s in stages
    )


def test_batches_of_the_lesson_are_the_texts(options):
    room = open_classroom(Config(**options), torch.device("cpu"))
    batch, _ = room.lesson.batch(np.array([3, 0]), torch.device("cpu"))
    again = assemble(plain_items(room.lesson.items.first), np.array([3, 0]), 0)
    assert batch.first.equal(again.first)
    ids = room.teacher.tokenizer(room.corpus.train[3])["input_ids"]
    assert batch.first[0][batch.mask[0]].tolist() == ids[: int(batch.mask[0].sum())] and len(ids) <= 12
