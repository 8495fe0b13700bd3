"""Impossible Distillation: critics and funnels by hand, the models' mechanics, bad input, commands."""

import errno
import json
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import stillhouse
from rows import ROWS
from stillhouse.catalog import load_method
from stillhouse.core import files
from stillhouse.core.errors import UserError
from stillhouse.core.run import Run, temporary_run
from stillhouse.corpus.everyday import everyday_stories, labelled_pairs
from stillhouse.corpus.tree_distance import parse
from stillhouse.encoders.tokens import train_wordpiece
from stillhouse.encoders.training import Recipe
from stillhouse.methods.impossible import Config, generation
from stillhouse.methods.impossible.causal import (
    LanguageModel,
    Sampling,
    Throughput,
    continuations,
    load_language_model,
    new_language_model,
    token_rows,
)
from stillhouse.methods.impossible.commands import COMMANDS
from stillhouse.methods.impossible.config import Size
from stillhouse.methods.impossible.critics import Funnel, Group, candidate_pairs, judge_pairs
from stillhouse.methods.impossible.dataset import Pair, control_codes, length_code, syntax_code, training_rows
from stillhouse.methods.impossible.domain import load_domain, truth
from stillhouse.methods.impossible.generation import finished, teacher_pairs
from stillhouse.methods.impossible.nli import (
    AttentionCritic,
    DecomposableAttention,
    LabelledPairs,
    attended,
    load_encoder_critic,
    piece_ids,
    train_attention,
)
from stillhouse.methods.impossible.seq2seq import (
    Examples,
    Student,
    draw_denoising,
    draw_pairs,
    load_student,
    new_student_model,
    padded,
    rewrite,
)
from stillhouse.methods.impossible.vocabulary import train_bpe

STORIES = everyday_stories(60).texts


class TruthCritic:
    """Knows the grammar."""

    name = fingerprint = "truth"

    def __init__(self):
        self.asked = 0

    def entailment(self, premises, hypotheses):
        self.asked += len(premises)
        return np.array([0.9 if truth(x, y, "summary") else 0.1 for x, y in zip(premises, hypotheses, strict=True)])


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe((" ".join(s) for s in STORIES), 420, 128)


@pytest.fixture(scope="module")
def teacher(tokenizer, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lm")
    new_language_model(Size(1, 16, 2), tokenizer, 64).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_language_model(folder)


@pytest.fixture(scope="module")
def student(tokenizer):
    torch.manual_seed(0)
    return Student(new_student_model(Size(1, 16, 2), tokenizer).eval(), tokenizer, 40)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    return stillhouse.run("impossible", out=tmp_path_factory.mktemp("runs") / "a", quiet=True, **ROWS["impossible"])


# critics ------------------------------------------------------------------------------------------------------------

ACTIVE, PASSIVE = "Anna bought three lamps on Monday.", "On Monday, 3 lamps were purchased by Anna."
SHORT, OTHER, FOUR = "Anna bought three lamps.", "Anna met the mayor on Monday.", "Anna bought four lamps on Monday."
LINES = (ACTIVE, PASSIVE, SHORT, OTHER, FOUR)


def group(sentences=LINES, *, both_ways=True):
    return Group("c", tuple(sentences), candidate_pairs(len(sentences), both_ways=both_ways))


def test_candidate_pairs_are_ordered_only_where_order_matters():
    assert candidate_pairs(3, both_ways=True).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert sorted(map(tuple, candidate_pairs(3, both_ways=False).tolist())) == [
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 2),
        (2, 0),
        (2, 1),
    ]


def test_only_the_paraphrase_passes_and_the_funnel_counts_it():
    kept, funnel = judge_pairs([group()], Config(least_tree_distance=3), TruthCritic())
    assert [(k.x, k.y) for k in kept] == [(ACTIVE, PASSIVE)]
    assert list(funnel.counts) == ["candidate pairs", "length", "numbers", "rouge", "entailment", "tree", "diversity"]
    assert funnel.counts["candidate pairs"] == 10 and funnel.counts["entailment"] == 1
    assert all(a >= b for a, b in zip(list(funnel.counts.values()), list(funnel.counts.values())[1:], strict=False))


@pytest.mark.parametrize(
    ("critic", "wrong"),
    [
        ("length", "Anna met."),
        ("numbers", FOUR),
        ("rouge", "Anna purchased three lamps on Monday."),
        ("entailment", SHORT),
        ("tree", "Boris bought two books on Friday."),
    ],
)
def test_each_critic_keeps_something_out(critic, wrong):
    config = Config(critics=(critic,), least_tree_distance=3)
    kept, _ = judge_pairs([group((ACTIVE, wrong)), group((ACTIVE, PASSIVE))], config, TruthCritic())
    assert [k.y for k in kept] == [PASSIVE]
    assert len(judge_pairs([group((ACTIVE, wrong))], Config(critics=()), TruthCritic())[0]) == 1


def test_the_second_direction_is_asked_only_where_the_first_held():
    critic = TruthCritic()
    judge_pairs([group()], Config(critics=("entailment",)), critic)
    # ten pairs in one direction; ACTIVE => PASSIVE, ACTIVE => SHORT, PASSIVE => SHORT hold
    assert critic.asked == 10 + 3


def test_summaries_follow_one_way_and_are_shorter():
    kept, funnel = judge_pairs([group(both_ways=False)], Config(task="summary"), TruthCritic())
    assert {(k.x, k.y) for k in kept} <= {(ACTIVE, SHORT), (PASSIVE, SHORT)}
    assert len(kept) == 1, "both inputs say the same: diversity keeps one"
    assert "rouge" not in funnel.counts and "tree" not in funnel.counts


def test_diversity_keeps_the_surest_pair_of_one_meaning():
    class Sure(TruthCritic):
        def entailment(self, premises, hypotheses):
            told = super().entailment(premises, hypotheses)
            return np.where(
                [" had " in x or " had " in y for x, y in zip(premises, hypotheses, strict=True)], told + 0.05, told
            )

    lines = ("Anna met the mayor.", "The mayor was met by Anna.", "Anna had a meeting with the mayor.")
    config = Config(critics=("entailment", "diversity"))
    kept, funnel = judge_pairs([group(lines)], config, Sure())
    assert funnel.counts["entailment"] == 3 and len(kept) == 1
    assert kept[0].forward == pytest.approx(0.95)


def test_groups_do_not_mix():
    kept, funnel = judge_pairs([group((ACTIVE, OTHER)), group((PASSIVE, OTHER))], Config(), TruthCritic())
    assert not kept and funnel.counts["candidate pairs"] == 2


def test_no_candidates_are_no_error():
    assert judge_pairs([group(())], Config(), TruthCritic())[0] == []


# the small NLI critic -----------------------------------------------------------------------------------------------


def test_attended_is_a_mean_over_real_words_where_scores_are_equal():
    values = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert attended(torch.zeros(1, 2, 3), values, torch.tensor([[True, True, False]])).flatten().tolist() == [2.0, 2.0]


def test_attention_critic_sees_neither_padding_nor_order():
    torch.manual_seed(0)
    model = DecomposableAttention(30, 8)
    a, b = torch.tensor([[3, 4, 5]]), torch.tensor([[6, 7]])
    told = model(a, b)
    assert torch.allclose(told, model(torch.tensor([[3, 4, 5, 0, 0]]), torch.tensor([[6, 7, 0]])), atol=1e-6)
    assert torch.allclose(told, model(a[:, [2, 0, 1]], b[:, [1, 0]]), atol=1e-6)
    assert not torch.allclose(told, model(b, a), atol=1e-4), "direction must matter"


def test_attention_critic_learns_what_follows():
    first, second, labels = labelled_pairs(3000)
    words = train_wordpiece([*first, *second], 600, 64)
    torch.manual_seed(0)
    with temporary_run("critic", 0) as run:
        model = train_attention(LabelledPairs(first, second, np.array(labels)), words, 32, Recipe(120, 64, 8e-3), run)
    critic = AttentionCritic(model, words, "test")
    x, y, truths = labelled_pairs(400, 1, "report")
    assert ((critic.entailment(x, y) > 0.5) == np.array(truths)).mean() > 0.6
    assert critic.entailment([], []).shape == (0,)
    assert piece_ids(words, [""]).shape == (1, 1)


# the teacher --------------------------------------------------------------------------------------------------------


def test_rows_hold_one_document_each_and_begin_with_the_start_token(tokenizer):
    rows = token_rows(tokenizer, STORIES[:8], 40)
    assert (rows[:, 0] == tokenizer.bos_token_id).all()
    told = " ".join(tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows)
    assert told == " ".join(" ".join(sentences) for sentences in STORIES[:8])
    assert (rows == tokenizer.eos_token_id).sum() == 8


def test_sampling_repeats_and_batches_do_not_change_likeliest_text(teacher):
    sampling = Sampling(1.0, 0.9, 8, 4)
    prompts = ["Anna bought", "", "On Monday, the mayor met"]
    speed = Throughput()
    one = continuations(teacher, prompts, 2, sampling, (0, "a"), speed)
    assert one == continuations(teacher, prompts, 2, sampling, (0, "a"))
    assert one != continuations(teacher, prompts, 2, sampling, (1, "a"))
    assert [len(texts) for texts in one] == [2, 2, 2] and speed.tokens > 0 and speed.tokens_per_second > 0
    likeliest = Sampling(1.0, 1e-6, 8, 3)
    together = continuations(teacher, prompts, 1, likeliest, (0,))
    alone = [continuations(teacher, [p], 1, likeliest, (0,))[0] for p in prompts]
    assert together == alone, "left padding must not change what is said"


def test_a_row_stops_at_its_first_finished_sentence(tokenizer):
    from stillhouse.methods.impossible.causal import _SentenceEnds

    def rows(*texts):
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return padded([np.array(i) for i in ids], tokenizer.pad_token_id)

    ends = _SentenceEnds(tokenizer, 0, torch.device("cpu"))
    assert ends(rows(" Anna met the mayor."), None).tolist() == [True]
    assert _SentenceEnds(tokenizer, 0, torch.device("cpu"))(rows(" Anna met 3."), None).tolist() == [False]


def test_finished_counts_what_is_left_out():
    faults = Counter()
    assert finished(["Anna met the mayor. And", "", "on and on"], faults) == ["Anna met the mayor."]
    assert faults == {"empty": 1, "unfinished": 1}


# the student --------------------------------------------------------------------------------------------------------


def test_codes_say_what_a_pair_shows():
    assert length_code("a b c d", "a b") == "<shorter>" and length_code("a b", "a b c d") == "<longer>"
    lines = [
        ACTIVE,
        "The lamps were purchased by Anna.",
        "On Monday, Anna bought three lamps.",
        "There was a meeting between Anna and the mayor.",
    ]
    assert [syntax_code(t) for t in parse(lines)] == ["<active>", "<passive>", "<fronted>", "<there>"]
    assert control_codes([(ACTIVE, SHORT)], ("length", "syntax")) == [("<shorter>", "<active>")]
    assert control_codes([(ACTIVE, SHORT)], ()) == [()]


def test_codes_are_told_half_of_the_time():
    examples = Examples([np.array([9, 1])], [np.array([8, 1])])
    inputs, _ = draw_pairs(examples, [[5, 6]])(4000, np.random.default_rng(0))
    told = Counter(tuple(row[:-2].tolist()) for row in inputs)
    assert set(told) == {(), (5,), (6,), (5, 6)} and all(800 < n < 1200 for n in told.values())


def test_denoising_hides_words_and_asks_for_the_sentence(student):
    inputs, outputs = draw_denoising(student, [ACTIVE], hidden=0.5)(50, np.random.default_rng(0))
    decode = student.tokenizer.decode
    assert {decode(row, skip_special_tokens=True).strip() for row in outputs} == {ACTIVE}
    hidden = [int((row == student.tokenizer.mask_token_id).sum()) for row in inputs]
    assert 2 < np.mean(hidden) < 4, "six words, half of them hidden"


def test_rewriting_in_a_batch_is_rewriting_alone(student):
    texts = [ACTIVE, "Anna met the mayor.", OTHER]
    assert rewrite(student, texts) == [rewrite(student, [t])[0] for t in texts]
    drawn = rewrite(student, texts, each=3, sampling=Sampling(1.0, 0.9, 6, 4), seed=(1,))
    assert [len(d) for d in drawn] == [3, 3, 3]
    assert drawn == rewrite(student, texts, each=3, sampling=Sampling(1.0, 0.9, 6, 4), seed=(1,))


def test_a_plain_t5_folder_gets_the_codes(tmp_path, tokenizer):
    words = train_wordpiece([" ".join(s) for s in STORIES], 300, 64)
    model = new_student_model(Size(1, 16, 2), tokenizer)
    model.resize_token_embeddings(len(words))
    model.save_pretrained(tmp_path)
    words.add_special_tokens({"eos_token": "[EOS]"})
    words.save_pretrained(tmp_path)
    opened = load_student(tmp_path, 40)
    ids = opened.tokenizer.convert_tokens_to_ids(["<shorter>", "<passive>"])
    assert max(ids) < opened.model.get_input_embeddings().weight.shape[0]
    assert len(rewrite(opened, [ACTIVE], codes=("<passive>",), max_new_tokens=4)) == 1


def test_rows_of_a_set_go_both_ways_only_for_the_teachers_pairs():
    def pair(x, y, by):
        return Pair(x, y, 0.9, 0.9, 0.2, by, "c", 0)

    rows = training_rows([pair("a", "b", "teacher"), pair("c", "d", "student")], both_ways=True)
    assert rows == [("a", "b"), ("b", "a"), ("c", "d")]
    assert training_rows([pair("a", "b", "teacher")], both_ways=False) == [("a", "b")]


# bad input ----------------------------------------------------------------------------------------------------------


def stub_teacher(monkeypatch, says):
    def drawn(_teacher, prompts, each, _sampling, _seed, _throughput=None, *, one_sentence=True):
        if not one_sentence:
            return [[f"{OTHER} {SHORT}"] for _ in prompts]
        return [[says[i % len(says)] for i in range(each)] for _ in prompts]

    monkeypatch.setattr(generation, "continuations", drawn)
    return LanguageModel(None, None, Path("x"))


SMALL = Config(contexts=4, continuations=4, shard=2, least_tree_distance=3)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ([""], "empty 8"),
        (["and so on " * 60], "endless 8"),
        (["no full stop here"], "unfinished 8"),
        (["Она купила лампы."], "other script 8"),
        (["caf\ufffd is open."], "broken text 8"),
        ([ACTIVE], "all are the same"),
    ],
)
def test_a_teacher_that_says_nothing_useful_is_named(monkeypatch, says, why):
    teacher = stub_teacher(monkeypatch, says)
    with temporary_run("impossible", 0) as run, pytest.raises(UserError, match=re.escape(why)):
        teacher_pairs(teacher, TruthCritic(), SMALL, run)


def test_contexts_without_a_finished_sentence_are_counted(monkeypatch):
    monkeypatch.setattr(generation, "continuations", lambda _t, prompts, *_a, **_k: [["no end"] for _ in prompts])
    with temporary_run("impossible", 0) as run, pytest.raises(UserError, match="context unfinished 2"):
        teacher_pairs(LanguageModel(None, None, Path("x")), TruthCritic(), SMALL, run)


def test_critics_that_accept_nothing_stop_with_the_funnel(monkeypatch):
    teacher = stub_teacher(monkeypatch, [ACTIVE, FOUR, OTHER])
    with temporary_run("impossible", 0) as run, pytest.raises(UserError) as raised:
        teacher_pairs(teacher, TruthCritic(), SMALL, run)
    assert "candidate pairs 12" in str(raised.value) and "entailment 0" in str(raised.value)


def test_a_full_disk_leaves_the_finished_shards_and_the_stage_goes_on(monkeypatch):
    teacher = stub_teacher(monkeypatch, [ACTIVE, PASSIVE, OTHER])
    with temporary_run("impossible", 0) as run:
        write, written = os.fsync, []

        def fsync(descriptor):
            written.append(1)
            if len(written) > 2:  # a file and its folder
                raise OSError(errno.ENOSPC, "No space left on device")
            write(descriptor)

        monkeypatch.setattr(files.os, "fsync", fsync)
        with pytest.raises(UserError, match="No space left"):
            teacher_pairs(teacher, TruthCritic(), SMALL, run)
        monkeypatch.setattr(files.os, "fsync", write)
        shards = run.folder / "arms" / "D_T"
        assert [f.name for f in shards.iterdir()] == ["00000.json"]
        before = (shards / "00000.json").read_bytes()
        made = teacher_pairs(teacher, TruthCritic(), SMALL, run)
        assert len(made.pairs) == 4 and (shards / "00000.json").read_bytes() == before
        assert made.pairs[0].context.startswith(OTHER) and made.pairs[-1].shard == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task": "translation"}, "give paraphrase or summary"),
        ({"continuations": 1}, "pairs are made of them"),
        ({"entailment": 1.0}, "probability between"),
        ({"context_sentences": (3, 1)}, "smaller first"),
        ({"temperature": 0.0}, "temperature"),
        ({"teacher_width": 30}, "not a multiple"),
        ({"pieces": 100}, "300 or more"),
        ({"prefixes": ()}, "no prefixes"),
        ({"contexts": 0}, "contexts is 0"),
    ],
)
def test_wrong_options_are_one_line(options, says):
    with pytest.raises(UserError, match=re.escape(says)):
        Config(**options)


def test_text_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="no data"):
        load_domain(Config(data=str(tmp_path / "nothing.txt")))
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"caf\xe9 is open.")
    with pytest.raises(UserError, match="not UTF-8"):
        load_domain(Config(data=str(bad)))
    few = tmp_path / "few.txt"
    few.write_text("Anna met the mayor on Monday.")
    with pytest.raises(UserError, match="give more text"):
        load_domain(Config(data=str(few)))


def test_a_text_file_is_split_by_documents(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("\n\n".join(" ".join(s) for s in everyday_stories(80).texts))
    domain = load_domain(Config(data=str(file), judged=10))
    assert domain.report.references is None and not set(domain.report.inputs) & set(domain.sentences)


def test_folders_that_are_not_what_they_should_be(tmp_path, teacher, tokenizer):
    with pytest.raises(UserError, match="no transformers model"):
        load_language_model(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_student(teacher.folder, 40)
    with pytest.raises(UserError, match="entailment"):
        from stillhouse.encoders.models import Shape, new_student

        words = train_wordpiece([" ".join(s) for s in STORIES], 300, 64)
        new_student(Shape(1, 16, 2, 32, 16), len(words), 32, ("good", "bad"), 0).save_pretrained(tmp_path / "c")
        words.save_pretrained(tmp_path / "c")
        load_encoder_critic(tmp_path / "c")


def test_sick_that_is_not_there_says_where_it_is(monkeypatch):
    from stillhouse.methods.impossible.made_here import get_critic

    monkeypatch.delenv("STILLHOUSE_DATA", raising=False)
    with temporary_run("impossible", 0) as run, pytest.raises(UserError, match="SICK"):
        get_critic(Config(critic="sick"), run)


# commands and the finished run --------------------------------------------------------------------------------------


def test_data_sets_are_written_with_provenance_and_a_card(finished_run, capsys):
    lines = (finished_run.model_folder / "data" / "d_t.jsonl").read_text().splitlines()
    pair = json.loads(lines[0])
    assert pair["made_by"] == "teacher" and {"x", "y", "context", "shard", "p_forward"} <= set(pair)
    COMMANDS["card"](finished_run.folder)
    card = capsys.readouterr().out
    assert f"d_t.jsonl: {len(lines)} pairs" in card and "Provenance" in card
    COMMANDS["pairs"](finished_run.folder, most=1)
    assert "->" in capsys.readouterr().out


def test_every_table_has_a_copy_and_a_random_row(finished_run):
    arms = {arm.name: arm for arm in finished_run.result.arms}
    assert arms["copy of the input"].metrics["good"] == 0.0 and arms["copy of the input"].metrics["bert_ibleu"] == 0.0
    assert arms["copy of the input"].metrics["right"] == 1.0 and arms["copy of the input"].metrics["rouge_input"] == 1.0
    assert arms["a random other input"].metrics["right"] < 0.1
    updates = {name: arm.cost.updates.get("student") for name, arm in arms.items() if name.startswith("student")}
    assert len({updates[n] for n in updates if "after" not in n and "before" not in n}) == 1, "equal updates"


def test_paraphrase_command(finished_run, capsys):
    run = finished_run.folder
    COMMANDS["paraphrase"]("Anna met the mayor.", run, code=("passive",), json=True)
    assert json.loads(capsys.readouterr().out)["codes"] == ["<passive>"]
    with pytest.raises(UserError, match="no control code"):
        COMMANDS["paraphrase"]("Anna met the mayor.", run, code=("loud",))
    with pytest.raises(UserError, match="made for the task paraphrase"):
        COMMANDS["summarise"]("Anna met the mayor.", run)
    with pytest.raises(UserError, match="nothing to rewrite"):
        COMMANDS["paraphrase"]("  ", run)
    with pytest.raises(UserError, match="not a run folder"):
        COMMANDS["paraphrase"]("Anna met the mayor.", run.parent)


def test_student_is_a_transformers_folder(finished_run):
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(finished_run.model_folder)
    ours = stillhouse.load(finished_run.folder).student.model.state_dict()
    assert all(value.equal(ours[name]) for name, value in model.state_dict().items())


def test_rewriter_keeps_an_unfinished_last_sentence():
    from stillhouse.methods.impossible.rewriter import split_text

    assert split_text("Anna met the mayor.  Then she") == ["Anna met the mayor.", "Then she"]


def test_funnels_add_up():
    one, two = Funnel(), Funnel()
    one.add("a", 3, 0.5)
    two.add("a", 4, 0.25)
    two.add("b", 1)
    assert one.merge(two).counts == {"a": 7, "b": 1} and one.merge(two).seconds["a"] == 0.75
    assert one.counts == {"a": 3}, "merging must not change what was there"


def test_same_seed_same_pairs(monkeypatch, tmp_path):
    teacher = stub_teacher(monkeypatch, [ACTIVE, PASSIVE, OTHER])
    found = []
    for name in "ab":
        with Run.create("impossible", {"seed": 3}, out=tmp_path / name, quiet=True) as run:
            found.append(teacher_pairs(teacher, TruthCritic(), replace(SMALL, seed=3), run).pairs)
    assert found[0] == found[1]


# exporting ----------------------------------------------------------------------------------------------------------


def test_encoder_and_decoder_by_themselves_say_what_the_student_says(finished_run):
    from stillhouse.core.onnx_files import numpy_of, torch_call

    portable = load_method("impossible").portable(finished_run.folder)
    calls = {network.name: torch_call(network) for network in portable.networks}
    assert portable.quality(calls) == {"same": 1.0}
    silent = lambda given: [0 * calls["decoder"](given)[0]]  # noqa: E731
    assert portable.quality({**calls, "decoder": silent})["same"] < 1
    copies = portable.opens["transformers"](finished_run.folder / "model")
    for network, copy in zip(portable.networks, copies, strict=True):
        given = numpy_of(network.inputs)
        assert np.allclose(torch_call(network, copy)(given)[0], calls[network.name](given)[0], atol=1e-5)
