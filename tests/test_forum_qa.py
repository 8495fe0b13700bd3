"""Forum question answering: losses and metrics by hand, windows, readers, the builder's known truth, sheets, asking."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

import stillhouse
from stillhouse.cli import dispatch
from stillhouse.core.errors import UserError
from stillhouse.corpus.spans import Span
from stillhouse.corpus.squad import Question, read_squad, write_squad
from stillhouse.encoders.tokens import load_tokenizer, train_wordpiece
from stillhouse.methods.forum_qa import sheet as sheets
from stillhouse.methods.forum_qa.ask import HELP, Reply, Search, highlighted, replies
from stillhouse.methods.forum_qa.aspects import BY_NAME, SUBJECTS, aspects_of
from stillhouse.methods.forum_qa.baselines import SlidingWindow, first_sentence
from stillhouse.methods.forum_qa.building import BuildOptions, Planted, build, leaks, user_table
from stillhouse.methods.forum_qa.crisis import is_crisis
from stillhouse.methods.forum_qa.data import gold_questions
from stillhouse.methods.forum_qa.fillings import DANGER
from stillhouse.methods.forum_qa.losses import NEVER, distillation_loss, masked, span_loss
from stillhouse.methods.forum_qa.metrics import (
    best_temperature,
    best_threshold,
    bootstrap,
    expected_calibration_error,
    mark,
    normalise,
    score,
)
from stillhouse.methods.forum_qa.reader import (
    Reader,
    Reading,
    candidates,
    load_reader,
    load_reader_model,
    require_positions,
    save_reader,
    tuned,
)
from stillhouse.methods.forum_qa.synthetic import inflected, make_forum, write_export
from stillhouse.methods.forum_qa.training import Lesson, Teaching, batch_losses
from stillhouse.methods.forum_qa.unlabelled import unlabelled_questions
from stillhouse.methods.forum_qa.windows import join_windows, make_windows, training_windows


def test_marks_by_hand():
    assert normalise("The  Night's, sleep!") == "nights sleep"
    found = mark("awake until three", ["lie awake until three am", "nothing"])
    assert (found.precision, found.recall, found.exact) == (1.0, 0.6, 0.0)
    assert found.f1 == pytest.approx(0.75)
    assert mark("The voices.", ["voices"]).exact == 1
    assert mark("", [""]) == (1, 1, 1, 1) and mark("a word", [""]).f1 == 0 and mark("", ["a word"]).f1 == 0
    scores = score(["", "sleep", ""], [[""], ["no sleep"], ["food"]], ["a", "b", "b"])
    assert scores.no_answer_accuracy == 1 and scores.has_answer_f1 == pytest.approx(1 / 3)
    assert scores.f1 == pytest.approx((1 + 2 / 3) / 3)


def test_the_bootstrap_draws_users():
    values = np.array([1.0] * 50 + [0.0] * 50)
    low, high = bootstrap(values, ["a"] * 50 + ["b"] * 50)
    assert (low, high) == (0, 1), "two users are two draws, however many questions they have"
    low, high = bootstrap(values, [str(i) for i in range(100)])
    assert 0.38 < low < 0.45 and 0.55 < high < 0.62


def test_threshold_temperature_and_calibration_by_hand():
    margins, spans, nulls = np.array([3.0, 1.0, -1.0, -2.0]), np.array([1.0, 0, 0.6, 0]), np.array([0.0, 1, 0, 1])
    assert best_threshold(margins, spans, nulls) == 2.0
    assert best_threshold(margins, np.ones(4), np.zeros(4)) < -2
    assert best_threshold(margins, np.zeros(4), np.ones(4)) > 3
    sure = [np.array([4.0, 0.0])] * 10
    half = [np.array([True, False])] * 5 + [np.array([False, True])] * 5
    assert best_temperature(sure, half) > 10, "half right: the confidence has to come down to a half"
    assert best_temperature(sure, [np.array([True, False])] * 10) < 1
    assert expected_calibration_error(np.array([0.95, 0.95, 0.15, 0.15]), np.array([1, 0, 0, 0])) == pytest.approx(0.3)


def test_span_loss_is_the_mean_of_two_cross_entropies():
    start = torch.tensor([[0.0, math.log(3), NEVER]])
    end = torch.tensor([[0.0, 0.0, NEVER]])
    loss = span_loss(start, end, torch.tensor([1]), torch.tensor([0]))
    assert float(loss) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    inside = torch.tensor([[True, True, False]])
    assert masked(torch.ones(1, 3), inside).tolist() == [[1, 1, NEVER]]


def test_distillation_loss_by_hand():
    start, other = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]])
    assert float(distillation_loss(start, start, start, start, 2.0)) == pytest.approx(0, abs=1e-6)
    p = torch.tensor([0.0, 1.0]).softmax(0)
    kl = float((p.flip(0) * (p.flip(0).log() - p.log())).sum())
    assert float(distillation_loss(start, start, other, start, 2.0)) == pytest.approx(4 * kl / 2, rel=1e-5)
    grown = start.clone().requires_grad_()
    distillation_loss(grown, grown, other, other, 1.0).backward()
    assert torch.allclose(grown.grad, start.softmax(-1) - other.softmax(-1), atol=1e-6)


TEXT = "I lie awake until four, café lights on. My brother sleeps well, he says. Nothing helps me at all these days."


def some_question(answer="awake until four", context=TEXT, name="q"):
    start = context.index(answer) if answer else 0
    spans = (Span(start, start + len(answer)),) if answer else ()
    return Question(name, "how does it affect sleep ?", context, spans, "user", "sleep")


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece([TEXT, "how does it affect sleep ?"] * 3, 300, 64)


def some_reader(tokenizer, seed=0, **reading):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, pad_token_id=int(tokenizer.pad_token_id),
    )  # fmt: skip
    return Reader(
        BertForQuestionAnswering(config).eval(), tokenizer, Reading(**{"max_tokens": 64, "stride": 8, **reading})
    )


def answer_in(windows, window, text):
    first = windows.items.first.offsets[window]
    return text[windows.begins[first + windows.starts[window]] : windows.stops[first + windows.ends[window]]]


def test_windows_hold_the_answer_where_it_is(tokenizer):
    questions = [some_question(), some_question("café lights"), some_question("")]
    windows = make_windows(tokenizer, questions, 64, 8)
    assert [answer_in(windows, i, TEXT) for i in (0, 1)] == ["awake until four", "café lights"]
    assert windows.starts[2] == 0 and len(windows) == 3 and windows.cut == ()
    assert windows.allowed(0).sum() == (windows.begins[: windows.items.first.offsets[1]] >= 0).sum() + 1


def test_long_passages_are_read_in_windows_that_overlap(tokenizer):
    long = " ".join([TEXT] * 4)
    start = long.rindex("awake until four")
    question = Question("q", "how does it affect sleep ?", long, (Span(start, start + 16),), "user")
    windows = make_windows(tokenizer, [question, some_question("")], 40, 12)
    assert (windows.question == 0).sum() > 3
    holding = np.flatnonzero(windows.starts)
    assert len(holding) >= 1 and all(answer_in(windows, i, long) == "awake until four" for i in holding)
    kept = training_windows(windows, 1.0, 0)
    assert (kept.starts == 0).sum() <= (kept.starts > 0).sum() < len(windows)


def test_answers_longer_than_the_overlap_are_named_and_teach_nothing(tokenizer):
    long = " ".join([TEXT] * 2)
    question = some_question(long[20:150], long)
    windows = make_windows(tokenizer, [question, some_question()], 36, 4)
    assert windows.cut == (0,)
    assert set(training_windows(windows, 5.0, 0).question.tolist()) == {1}, "'no answer' would be a lie"
    with pytest.raises(UserError, match=r"leave \d+ for the passage"):
        make_windows(tokenizer, [some_question()], 20, 4)
    with pytest.raises(UserError, match="do not get on"):
        make_windows(tokenizer, [some_question()], 40, 38)


def test_the_best_span_is_the_best_of_all_spans(tokenizer):
    question = some_question()
    windows = make_windows(tokenizer, [question], 64, 8)
    length = int(windows.items.lengths[0])
    scores = np.random.default_rng(1).normal(size=(2, length)).astype(np.float32)
    scores[:, ~windows.allowed(0)] = NEVER
    (found,) = candidates(windows, [scores], 1, 6)
    every = [
        (scores[0, i] + scores[1, j], windows.begins[i], windows.stops[j])
        for i in range(1, length)
        for j in range(i, min(length, i + 6))
        if windows.begins[i] >= 0 and windows.begins[j] >= 0
    ]
    top = max(every)
    assert found[0].span == (top[1], top[2]) and found[0].score == pytest.approx(top[0])
    assert found[-1].span is None and found[-1].score == pytest.approx(scores[:, 0].sum())
    assert all(a.score >= b.score for a, b in itertools.pairwise(found))


def test_a_reader_comes_back_from_its_folder(tokenizer, tmp_path):
    reader = some_reader(tokenizer, threshold=-3.0, temperature=2.5)
    save_reader(reader, [TEXT], tmp_path / "model")
    again = load_reader(tmp_path / "model")
    assert again.reading == reader.reading
    one, two = (r.ask("how does it affect sleep ?", [TEXT])[0] for r in (reader, again))
    assert one == two and sum(a.confidence for a in one) == pytest.approx(1)
    (tmp_path / "model" / "reader.json").write_text('{"other": 1}')
    with pytest.raises(UserError, match="another version"):
        load_reader(tmp_path / "model")


def other_family(family, folder):
    """A tiny reader of another family with its own kind of tokenizer, as a folder."""
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import (
        DistilBertConfig,
        DistilBertForQuestionAnswering,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaForQuestionAnswering,
    )

    torch.manual_seed(0)
    if family == "distilbert":
        made = train_wordpiece([TEXT] * 3, 200, 64)
        config = DistilBertConfig(vocab_size=len(made), dim=24, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=64, pad_token_id=int(made.pad_token_id))  # fmt: skip
        DistilBertForQuestionAnswering(config).save_pretrained(folder)
    else:
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(
            [TEXT] * 3, 300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False
        )
        inner = bpe._tokenizer
        inner.post_processor = processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
        )
        made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>")  # fmt: skip
        config = RobertaConfig(vocab_size=len(made), hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=130, type_vocab_size=1, pad_token_id=1)  # fmt: skip
        RobertaForQuestionAnswering(config).save_pretrained(folder)
    made.save_pretrained(folder)


@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_readers_of_other_families(family, tmp_path):
    other_family(family, tmp_path / "model")
    reader = Reader(load_reader_model(tmp_path / "model").eval(), load_tokenizer(tmp_path / "model"), Reading(60, 8))
    questions = [some_question(), some_question("café lights"), some_question("")]
    windows = reader.windows(questions)
    holding = np.flatnonzero(windows.starts)
    assert {answer_in(windows, w, TEXT) for w in holding} == {"awake until four", "café lights"}
    loss = sum(loss for _, loss in batch_losses(reader.model, Lesson(windows), np.arange(len(windows))).values())
    assert loss.item() == pytest.approx(math.log(40), abs=1.2), "a network that knows nothing"
    said = reader.ask(questions[0].text, [TEXT])[0]
    assert all(TEXT[a.span.start : a.span.end].strip() for a in said if a.span)
    require_positions(tmp_path / "model", 64)
    with pytest.raises(UserError, match="max_tokens is 200"):
        require_positions(tmp_path / "model", 200)


def test_a_student_learns_what_its_teacher_says(tokenizer):
    teacher, student = some_reader(tokenizer, 0), some_reader(tokenizer, 1)
    windows = teacher.windows([some_question(), some_question("")])
    lesson = Lesson(windows, Teaching(teacher.model, windows.items, 0.0, 1.0))
    optimizer = torch.optim.Adam(student.model.parameters(), 1e-2)
    seen = []
    for _ in range(60):
        losses = batch_losses(student.model, lesson, np.arange(2))
        assert set(losses) == {"distillation"}
        (weight, loss), *_ = losses.values()
        optimizer.zero_grad()
        (weight * loss).backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < 0.2 * seen[0], "the divergence from the teacher goes down"


def test_unlabelled_questions_are_new_pairs_of_train_questions_and_passages():
    train = [
        Question(f"{u}-{a}", f"what of {a} in words {u} ?", f"{TEXT} {u}", some_question().answers, f"u{u}", a)
        for u in range(6)
        for a in ("sleep", "work")
    ]
    made = unlabelled_questions(train, 40, 0)
    pairs = [(q.context, q.text) for q in made]
    assert made == unlabelled_questions(train, 40, 0) and len(set(pairs)) == len(pairs) == 40
    assert not set(pairs) & {(q.context, q.text) for q in train} and not any(q.answers for q in made)
    assert {c for c, _ in pairs} <= {q.context for q in train} and {t for _, t in pairs} <= {q.text for q in train}
    assert len(unlabelled_questions(train, 1000, 0)) == 6 * 12 - 12, "there are no more pairs than these"
    apart = [replace(q, aspect="", group=f"document {u}") for u, q in enumerate(train)]
    assert len(unlabelled_questions(apart, 20, 0)) == 20, "documents are the topics where no aspect is named"
    assert unlabelled_questions(train, 0, 0) == ()


def test_gold_answers_are_asked_for_only_where_there_are_some(tokenizer):
    reader = some_reader(tokenizer)
    gold, more = reader.windows([some_question(), some_question("")]), reader.windows([some_question("café lights")])
    both = join_windows(gold, more)
    assert both.question.tolist() == [0, 1, 2] and answer_in(both, 2, TEXT) == "café lights"
    lesson = Lesson(both, Teaching(reader.model, both.items, 0.5, 1.0), unlabelled=1)
    told = batch_losses(reader.model, lesson, np.array([2]))
    assert set(told) == {"distillation"}
    assert all(loss.item() == pytest.approx(0, abs=1e-6) for _, loss in told.values()), "its own teacher"
    mixed, alone = (
        batch_losses(reader.model, lesson, np.arange(3)),
        batch_losses(reader.model, Lesson(gold), np.arange(2)),
    )
    assert mixed["span"][1].item() == pytest.approx(alone["span"][1].item(), abs=1e-5), "the third has no say in it"
    cut = reader.windows([])
    assert len(cut) == 0 and len(join_windows(gold, cut)) == 2


def test_a_tuned_reader_says_nothing_where_that_pays(tokenizer):
    reader = some_reader(tokenizer)
    questions = [some_question("", name=str(i)) for i in range(4)]
    found = reader.candidates(questions)
    assert tuned(reader, questions, found).predictions(questions, found) == [""] * 4
    best = found[0][0].span
    answered = [Question(str(i), q.text, q.context, (best,), "u") for i, q in enumerate(questions)]
    assert tuned(reader, answered, found).predictions(answered, found) == [best.of(TEXT)] * 4


def test_baselines_by_hand():
    assert first_sentence(some_question()).of(TEXT) == "I lie awake until four, café lights on."
    window = SlidingWindow([TEXT, "other words at all"], width=3)
    question = Question("q", "What says the brother?", TEXT, (), "u")
    span, value = window(question)
    assert "brother" in span.of(TEXT) or "says" in span.of(TEXT)
    assert value == pytest.approx(math.log(2)), "each word once in the training passages"
    assert SlidingWindow([])(Question("q", "?", "", (), "u")) == (None, 0.0)


@pytest.fixture(scope="module")
def forum():
    return make_forum(60, 3)


def test_the_made_up_forum_says_where_everything_is(forum):
    again = make_forum(60, 3)
    assert [w.post for w in forum] == [w.post for w in again], "the same seed is the same forum"
    golds = [(w, g) for w in forum for g in w.golds]
    assert {g.aspect for _, g in golds} == set(BY_NAME)
    assert 0.2 < np.mean([g.answer is None for _, g in golds]) < 0.45
    for written, gold in golds:
        if gold.answer is not None:
            text = gold.answer.of(written.post.text)
            assert text and text == text.strip() and "{" not in text
    mails = [w.post.text[f.start : f.end] for w in forum for f in w.personal if f.kind == "EMAIL"]
    assert mails and all("@" in mail for mail in mails)
    wordings = {g.question for _, g in golds}
    assert len(wordings) > 120, "questions are asked in many ways"
    assert inflected("lie awake until 3am", "before") == "lay awake until 3am"
    assert inflected("hug my mum when I cry", "other") == "hugs their mum when they cry"


@pytest.fixture(scope="module")
def built(forum, tmp_path_factory):
    export = tmp_path_factory.mktemp("forum") / "export.jsonl"
    write_export(forum, export)
    known = {}
    for written in forum:
        known.setdefault(written.post.id, written)

    def planted(number):
        return Planted([g.answer for g in known[number].golds], known[number].personal)

    return build(export, BuildOptions(deidentifier="rules"), planted), known, export


def test_the_builder_keeps_answers_and_gives_nothing_away(built):
    made, known, export = built
    questions, lost = gold_questions(made, {k: w.golds for k, w in known.items()})
    assert len(questions) > 100 and lost <= 0.02 * len(questions)
    sources = {w.post.id: w for w in known.values()}
    for passage in made.passages:
        assert passage.user not in passage.text
        for found in passage.planted:
            word = passage.cleaned[found.start : found.end]
            if found.kind in ("EMAIL", "URL", "PHONE", "HANDLE"):
                assert word not in passage.text
        for gold, span in zip(sources[passage.source].golds, passage.answers, strict=True):
            assert (span is None) == (gold.answer is None) or lost
    assert leaks([p.text for p in made.passages], export, 6) == {}
    assert len(leaks([p.cleaned for p in made.passages], export, 6)) > 0.9 * len(made.passages)
    assert made.found_scrubbed > 0.8 * len(made.passages)


def test_the_funnel_only_narrows_and_the_flood_is_gone(built):
    made, known, _ = built
    posts = [row[1] for row in made.funnel]
    assert posts == sorted(posts, reverse=True) and posts[0] > 3 * posts[-1]
    assert made.gini_after < made.gini_before and made.largest_after < 0.2 < made.largest_before
    assert made.losses.startswith("2 malformed lines")
    steps = {row[0]: row[1] for row in made.funnel}
    in_danger = sum(w.post.id.startswith("d") for w in known.values())
    assert 0 < steps["about symptoms or daily life"] - steps["words of someone in danger: left out"] <= in_danger
    assert not any(p.source.startswith("d") for p in made.passages)
    staff = {w.post.user for w in known.values() if w.post.staff} | {"DailyBot"}
    assert not staff & {p.user for p in made.passages}


def test_the_released_table_of_users_is_k_anonymous(built):
    made, _, _ = built
    text, _ = user_table(made, b"salt", 4)
    rows = [line.split(",")[1:] for line in text.splitlines()[1:]]
    assert min(rows.count(row) for row in rows) >= 4
    assert not any(user in text for user in {p.user for p in made.passages})


DANGEROUS = """
I want to die
should i kill myself
thinking about suicide
i dont want to be alive anymore
how much for an overdose
I can't go on
the voices tell me to jump
no reason to live
k1ll myself
i keep cutting myself
end it all
I am going to hurt someone
SU1CIDE
how do people end their lives quickly
nobody would miss me
everyone would be better off without me
what is a painless way to die
how many tablets would it take to die
I can't do this anymore
I don't want to be here anymore
I wish I had never been born
I wish I was dead
i want to disappear forever
I'm going to end my life tonight
ways to kill yourself
how to commit suicide
thinking of ending my life
there is no way out
I don't see the point of living
life is not worth living
I am a burden to everyone
I have a plan to kill myself
the voices say I should die
voices command me to hurt my mother
he says he will shoot himself
she tried to hang herself
my son wants to die
my brother is talking about suicide
how do I tie a noose
what is a lethal dose of clozapine
how much olanzapine is deadly
can I overdose on quetiapine
what happens if I take all my tablets at once
I swallowed the whole bottle
I took 30 pills
I cut my wrists
slit my wrists
i am suicidal
I've been self harming again
I feel like hurting people
I want to stab my dad
I'm about to jump
jump off a bridge
say goodbye to everyone
nothing left to live for
I can't take it any more
I don't want to wake up tomorrow
want 2 die
kys
sewer slide
i wanna unalive myself
I will kill him before he kills me
god tells me to sacrifice my baby
I have a gun and I am ready
throw myself under a train
should i just give up on life
tired of living
I'd rather not exist
he threatened to kill me
someone is going to kill me
I just want it all to stop and never wake up again
planning to take my life this weekend
I've been thinking about ending it
he's been cutting his arms again
my daughter swallowed a box of paracetamol
I stood on the bridge yesterday and nearly did it
the voice keeps telling me to jump
my dad would be happier if I was dead
I don't feel like living anymore
what's the point of carrying on
the world is better without me in it
I'm going to hang myself
I deserve to die
how long does it take to bleed out
I have written my goodbye letters
I can't live like this any longer
I want to be dead
she said she is going to kill herself
i feel like killing my husband
I might hurt my kids
want to end my suffering
thinking of walking into traffic
I have nothing to live for
I hate my life and want out
where can I buy poison
please help me die
I'm thinking of harming my neighbour
they told me to burn the house down
I took too many pills last night
drinking bleach
""".strip().splitlines()
HARMLESS = """
how does it affect sleep?
what helps with the voices?
when did it start
does it die down?
can the tablets hurt my stomach?
what kills the mood
How does it end?
when did it start?
what is the right dose of clozapine
how long does it take to work
do the voices get worse at night
do voices tell you what to do
how do I cope with the pain in my back
what to do when the day never ends
how do people end their day
does anyone take all their tablets in the morning
my dog died last year
the bus jumped the kerb
I missed everybody at the party
did the battery die
I can't take it with food
I can't do this exercise
what do you do about friends now
do you hang pictures
I took 30 mg
cutting down on coffee
I cut my hair
I stopped living at home
how does the writer's brother sleep
no way out of the queue
is it worth living near the clinic
the deadline kills me
does it hurt people's feelings
he hurt his knee
I'm dying to see that film
they shoot films here
burden of paperwork
does it disappear with time
I wish I had never moved
how do I give up smoking
ready for bed
tired of meetings
the tablets knock me out
what are the effects of an injection
is there life after diagnosis
what is it like to live with someone who is ill
how is work going for the writer's sister?
which side effect bothers the writer now?
what does the medicine do to the body?
I stopped taking risperidone in May
my brother jumps whenever the phone rings
he told me to jump the queue
what is the writer's social life like?
does it get worse with stress
I cut the grass with my dad
the pharmacist gave me a box of tablets
he shot a good photo
my mum wants to hug me
she said it is over
what happened to hobbies?
how long do people stay in hospital
I was late and they left without me
nobody understands the form
I don't want to wake up early
what is the point of the meeting
does quetiapine kill your appetite
the film about death
how do people live with voices
I go to bed and can't get up
can I drive on lithium
I'm living with my gran
it hurts when I swallow
why do I wake at 3
what is a normal dose
I took two tablets before bed
my friends went on without me
""".strip().splitlines()


def test_words_of_someone_in_danger_are_met_with_help(tmp_path, capsys):
    assert [q for q in DANGEROUS if not is_crisis(q)] == []
    assert [q for q in HARMLESS if is_crisis(q)] == []
    assert not any(is_crisis(q) for aspect in BY_NAME.values() for s in SUBJECTS for q in aspect.questions(s))
    assert all(is_crisis(text) for text in DANGER)
    dispatch(["ask", "I want to die", "--run", str(tmp_path)])
    assert capsys.readouterr().out.strip() == HELP.strip(), "help, at once, and no span"


class _Never:
    def ask(self, *_):
        raise AssertionError("a reader was asked")


def test_asking_finds_the_passage_and_marks_the_span(tokenizer):
    passages = [TEXT, "The bus is late and the shop is closed.", "I want to die, nobody calls"]
    assert Search(passages).top("how does it affect sleep?", 1) == [TEXT]
    assert replies(_Never(), passages, "I want to die") is None
    assert replies(_Never(), passages, "zebra?") == []
    reader = some_reader(tokenizer, threshold=-1e8)
    found = replies(reader, passages, "what about nobody and sleep at night?")
    assert found and all("die" not in r.passage for r in found), "a passage of someone in danger is not quoted"
    assert highlighted(Reply("I sleep badly", Span(2, 7), 0.9), False) == "I »sleep« badly"
    assert [a.name for a in aspects_of("I wake at night and sleep in the day", 2)] == ["sleep"]


def some_rows(*answers, text="the cat saw the dog and the dog ran"):
    return [sheets.Row(str(i), "u", "sleep", "who?", text, a) for i, a in enumerate(answers)]


def test_kappa_by_hand():
    # 2 x 2 table 20 5 / 10 15: observed .7, expected .5
    one = [1] * 25 + [0] * 25
    other = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert sheets.cohen_kappa(one, other) == pytest.approx(0.4)
    assert sheets.cohen_kappa([1, 1], [1, 1]) == 1


def test_two_annotators():
    first = some_rows("the cat", "-", "dog and the dog", None, "cat saw")
    second = some_rows("cat", "-", "-", "-", "dog ran")
    found = sheets.agreement(first, second)
    assert found.rows == 4 and found.disagreed == ("2", "4")
    assert found.kappa_answerable == pytest.approx(0.5)
    questions, left = sheets.adjudicated([first, second])
    assert [q.golds for q in questions] == [("the cat", "cat"), ("",)] and left == ["2", "4"]
    with pytest.raises(UserError, match=r"in its passage 2 times; write \"\[2\]"):
        sheets.span_of(some_rows("dog")[0])
    assert sheets.span_of(some_rows("[2] dog")[0]) == Span(28, 31)
    with pytest.raises(UserError, match="not in its passage"):
        sheets.span_of(some_rows("bird")[0])
    with pytest.raises(UserError, match="no answered row in common"):
        sheets.agreement(some_rows(None), second)


def test_sheets_by_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_squad([some_question(name="a"), some_question("", name="b")], tmp_path / "d.json")
    dispatch(["forum_qa", "sheet", "d.json", "--out", "one.csv", "--answers"])
    dispatch(["forum_qa", "agreement", "one.csv", "one.csv", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["rows"] == 2 and found["kappa_answerable"] == 1
    dispatch(["forum_qa", "import", "one.csv", "one.csv", "--out", "again.json"])
    assert [q.golds for q in read_squad(tmp_path / "again.json")] == [("awake until four",), ("",)]
    with pytest.raises(UserError, match="no sheet"):
        dispatch(["forum_qa", "import", "none.csv"])


def test_building_by_command(built, tmp_path, capsys):
    _, _, export = built
    out = tmp_path / "set"
    dispatch(["forum_qa", "build", str(export), "--out", str(out), "--deidentifier", "rules"])
    said = capsys.readouterr().out
    assert "0 as released" in said and "Gini" in said
    rows = sheets.read_sheet(out / "sheet.csv")
    assert len(rows) > 100 and all(row.answer is None and row.user.startswith("user-") for row in rows)
    with pytest.raises(UserError, match="not an empty folder"):
        dispatch(["forum_qa", "build", str(export), "--out", str(out)])
    salt = export.with_name(export.name + ".salt")
    assert salt.stat().st_mode & 0o77 == 0, "the salt is its owner's alone"


TINY = {"reader": "minilm-1", "teacher_updates": 1, "updates": 1, "layers": 1, "batch": 2, "compare": "none"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "nothing"}, "no question set"),
        ({"data": "posts.csv"}, "stillhouse forum_qa build"),
        ({"data": "missing.json"}, "no file"),
        ({"search_words": 2}, "search_words is 2"),
        ({"hard_weight": 1.5}, "hard_weight is 1.5"),
        ({"max_tokens": 900, "data": "few.json"}, "max_tokens is 900"),
        ({"reader": "minilm-9", "data": "few.json"}, "has 6 layers"),
        ({"reader": "./none", "data": "few.json"}, "no transformers model"),
        ({"layers": 3, "data": "few.json"}, "deeper than its teacher"),
        ({"data": "two-users.json"}, "three are needed"),
        ({"data": "unanswered.json"}, "no answer to train on"),
    ],
)
def test_bad_input_is_one_line(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def made(users, answer):
        return [Question(f"{u}-{i}", "what ?", TEXT + str(u), some_question(answer).answers, f"user {u}") for u in range(users) for i in range(2)]  # fmt: skip

    write_squad(made(8, "awake"), tmp_path / "few.json")
    write_squad(made(2, "awake"), tmp_path / "two-users.json")
    write_squad(made(8, ""), tmp_path / "unanswered.json")
    with pytest.raises(UserError) as error:
        stillhouse.run("forum_qa", out=tmp_path / "run", quiet=True, **{**TINY, **options})
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_folder_whose_parts_share_users_is_refused(tmp_path):
    questions = [some_question(name=str(i)) for i in range(4)]
    for part in ("train", "report"):
        write_squad(questions, tmp_path / f"{part}.json")
    with pytest.raises(UserError, match=r"1 users are in train.json and in report.json"):
        stillhouse.run("forum_qa", out=tmp_path / "run", quiet=True, data=str(tmp_path), **TINY)


def test_public_sets_are_read_with_every_answer_in_place(public_data):
    from stillhouse.methods.forum_qa import Config
    from stillhouse.methods.forum_qa.data import _from_files

    for name, count in (("covidqa", 1380), ("xquad", 1190)):
        if not (public_data / name).is_dir():
            pytest.skip(f"{name} is not in $STILLHOUSE_DATA")
        made = _from_files(Config(data=name, unanswerable=0.0))
        questions = [*made.train, *made.select, *made.report]
        assert abs(len(questions) - count) < 0.01 * count + 1
        assert not {q.group for q in made.train} & {q.group for q in made.report}
        longest = max(len(q.context) for q in questions)
        assert longest < 4000, f"{name}: {longest} characters"
