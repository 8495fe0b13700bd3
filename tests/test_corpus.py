"""The corpus workbench: spans through every change, exports of every kind, cleaning, selection, de-identification, SQuAD files."""

import json
import math
import random

import pytest

from stillhouse.core.errors import UserError
from stillhouse.corpus.cleaning import clean, fingerprint, unusable
from stillhouse.corpus.deidentify import (
    CueFinder,
    Deidentifier,
    Found,
    Lexicon,
    find_forms,
    judge,
    scrub,
    united,
    user_hash,
)
from stillhouse.corpus.k_anonymity import band, hidden, k_anonymous, rarest_class
from stillhouse.corpus.readers import Losses, Post, read_posts, seconds
from stillhouse.corpus.selection import Activity, CappedPosts, Funnel, Rule, gini, regular_users
from stillhouse.corpus.spans import (
    Replacement,
    Span,
    occurrences,
    require_aligned,
    rewrite,
    splits_character,
    without_overlaps,
)
from stillhouse.corpus.squad import Question, passages, read_squad, split_questions, write_squad
from stillhouse.corpus.unsearchable import LEFT_OUT, Lookup, grams, obscure, tokens


def test_a_span_stays_on_its_words_whatever_is_replaced_around_it():
    draw = random.Random(0)
    words = [f"w{i}" for i in range(30)]
    text = " ".join(words)
    places = occurrences(text, "w")
    for _ in range(200):
        chosen = sorted(draw.sample(range(30), 8))
        inside = {chosen[3], chosen[4]}
        span = Span(places[chosen[3]].start, places[chosen[4]].start + len(words[chosen[4]]))
        cuts = [
            Replacement(places[i].start, places[i].start + len(words[i]), draw.choice(["", "longer words", "é"]))
            for i in chosen
            if i not in inside and not chosen[3] < i < chosen[4]
        ]
        made = rewrite(text, cuts, [span])
        assert made.spans[0].of(made.text) == span.of(text)


def test_rewriting_by_hand():
    text = "I am Rose and I sleep badly"
    made = rewrite(
        text, [Replacement(5, 9, "[NAME]"), Replacement(16, 21, "rest")], [Span(14, 27), Span(5, 9), Span(7, 12)]
    )
    assert made.text == "I am [NAME] and I rest badly"
    assert [s.of(made.text) for s in made.spans] == ["I rest badly", "[NAME]", "[NAME] an"]
    assert rewrite("ab", [Replacement(2, 2, "!")], [Span(0, 2)]).spans[0] == Span(0, 2), (
        "an insertion behind stays outside"
    )
    assert rewrite("ab", [Replacement(0, 0, "!")], [Span(0, 2)]).spans[0] == Span(1, 3), "and so does one before"
    assert rewrite("a b", [Replacement(0, 1, "")], [Span(0, 1), Span(0, 3)]).spans == (None, Span(1, 2))
    with pytest.raises(ValueError, match="overlap"):
        rewrite("abc", [Replacement(0, 2, ""), Replacement(1, 3, "")])


def test_misaligned_spans_are_refused_by_name():
    assert require_aligned("I sleep badly", 2, "sleep", "question 7") == Span(2, 7)
    with pytest.raises(UserError, match=r"question 7 is not at character 3 .* it is at character 2"):
        require_aligned("I sleep badly", 3, "sleep", "question 7")
    with pytest.raises(UserError, match="nowhere in the passage"):
        require_aligned("I sleep badly", 0, "wake", "question 7")
    with pytest.raises(UserError, match="empty"):
        require_aligned("I sleep", 0, " ", "question 7")
    # as an export that counts UTF-16 units would have it
    with pytest.raises(UserError, match="UTF-16"):
        require_aligned("😔 I sleep", 5, "sleep", "question 8")


def test_composed_characters_are_not_cut():
    family = "👩‍👧"
    assert [splits_character(family, i) for i in range(len(family) + 1)] == [False, True, True, False]
    assert splits_character("e\u0301", 1) and splits_character("👍🏽", 1)
    assert [splits_character("🇨🇦🇨🇦", i) for i in (1, 2, 3)] == [True, False, True]
    with pytest.raises(UserError, match="composed character"):
        require_aligned("cafe\u0301 is nice", 0, "cafe", "question 1")
    assert without_overlaps([Span(4, 6), Span(0, 2), Span(1, 3)]) == [Span(0, 3), Span(4, 6)]


ROWS = [
    ("1", "ann", "2021-03-01T10:00:00", "I sleep badly 😔"),
    ("2", "bob", "2021-04-01T10:00:00", "line one\nline two, café"),
]


def some_export(kind, folder):
    """The two rows as an export of a kind."""
    file = folder / f"export.{kind}"
    if kind in ("csv", "tsv"):
        separator = "," if kind == "csv" else "\t"
        lines = [separator.join(f'"{v}"' for v in row) for row in ROWS]
        file.write_text("\n".join([separator.join(("id", "username", "created_at", "body")), *lines]) + "\n")
    elif kind == "jsonl":
        file.write_text(
            "\n".join(json.dumps(dict(zip(("_id", "author", "date", "text"), r, strict=True))) for r in ROWS)
        )
    elif kind == "json":
        posts = [dict(zip(("id", "username", "created_at", "cooked"), r, strict=True)) for r in ROWS]
        file.write_text(json.dumps({"post_stream": {"posts": posts}}))
    elif kind == "mbox":
        mails = [
            f"From x\nFrom: {u}\nDate: {d}\nMessage-ID: {i}\nContent-Type: text/plain; charset=utf-8\n\n{t}\n"
            for i, u, d, t in ROWS
        ]
        file.write_text("\n".join(mails))
    return file


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "mbox"])
def test_exports_are_read(kind, tmp_path):
    found = list(read_posts(some_export(kind, tmp_path)))
    assert [(p.id, p.user, p.text.strip()) for p in found] == [(i, u, t) for i, u, _, t in ROWS]
    assert found[1].time - found[0].time == 31 * 86_400


def test_sql_dumps_of_two_forums(tmp_path):
    php = tmp_path / "phpbb.sql"
    php.write_text(
        "CREATE TABLE `phpbb_posts` (\n  `post_id` int,\n  `poster_id` int,\n  `post_time` int,\n  `post_text` text,\n"
        "  PRIMARY KEY (`post_id`)\n);\n"
        r"INSERT INTO `phpbb_posts` VALUES (1,7,1600000000,'it''s \'hard\', (really)\nno sleep'),(2,8,1600000001,'fine');"
        "\nINSERT INTO `phpbb_users` VALUES (7,'x');\n"
    )
    found = list(read_posts(php))
    assert [(p.id, p.user, p.text) for p in found] == [
        ("1", "7", "it's 'hard', (really)\nno sleep"),
        ("2", "8", "fine"),
    ]
    discourse = tmp_path / "discourse.sql"
    discourse.write_text(
        "COPY public.posts (id, user_id, topic_id, raw, created_at, deleted_at) FROM stdin;\n"
        "1\t4\t9\ta\\nb\t2021-01-01 00:00:00\t\\N\n2\t4\t9\tgone\t2021-01-01 00:00:00\t2021-01-02 00:00:00\nbad line\n\\.\n"
    )
    losses = Losses()
    assert [(p.user, p.thread, p.text) for p in read_posts(discourse, losses=losses)] == [("4", "9", "a\nb")]
    assert losses.words() == "1 malformed rows (4)"


def test_malformed_lines_are_counted_and_a_broken_export_refused(tmp_path):
    file = tmp_path / "x.jsonl"
    good = json.dumps({"user": "a", "text": "hello there"})
    file.write_text(f'{good}\n{{"user": "b", "te\n[1]\n{good}\n{good}\n')
    losses = Losses()
    assert len(list(read_posts(file, losses=losses))) == 3
    assert losses.words() == "1 malformed lines (2), 1 lines that are no JSON objects (3)"
    file.write_text("{\n{\n" + good)
    with pytest.raises(UserError, match="2 malformed lines"):
        list(read_posts(file))
    file.write_text("")
    with pytest.raises(UserError, match="no posts"):
        list(read_posts(file))
    file.write_text('{"user": "a", "words": "hello"}')
    with pytest.raises(UserError, match=r"no column with the text; name it with --text-column; there are: user, words"):
        list(read_posts(file))
    assert next(read_posts(file, {"text": "words"})).text == "hello"
    with pytest.raises(UserError, match="no export"):
        list(read_posts(tmp_path / "none.csv"))
    assert seconds("1600000000000") == 1.6e9 and math.isnan(seconds("last week"))


def test_cleaning_keeps_answers_where_they_are():
    raw = "[quote=bob]I sleep fine[/quote]\n<p>I [b]never[/b] sleep &amp; cafe\u0301s\u200b close</p>\n-- \nann, diagnosed 2010"
    start = raw.index("sleep &")
    made = clean(raw, [Span(start, raw.index(" close")), Span(8, 12)])
    assert made.text == "I never sleep & cafés close"
    assert [s and s.of(made.text) for s in made.spans] == ["sleep & cafés", None]
    assert clean("no change here 👩‍👧").text == "no change here 👩‍👧"
    reasons = [
        unusable(clean(t).text)
        for t in (
            "",
            "<p> </p>",
            "see https://x.org/a",
            "me too",
            "Welcome to the forum, all of you!",
            "this is a whole post",
        )
    ]
    assert reasons == ["empty", "empty", "only links", "too short", "boilerplate", None]
    assert fingerprint("I sleep, badly!") == fingerprint("i SLEEP badly") != fingerprint("i sleep")


def test_gini_by_hand():
    assert gini([3, 3, 3]) == 0 and gini([]) == 0
    assert gini([0, 0, 0, 8]) == pytest.approx(0.75)
    assert gini([1, 2, 3]) == pytest.approx(2 / 9)


def some_activity(posts, months=3, **more):
    activity = Activity(**more)
    for i in range(posts):
        activity.add(Post(str(i), "u", 2_700_000.0 * (i % months), "words"))
    return activity


def test_one_user_with_nine_tenths_of_the_posts_does_not_decide_the_data():
    activity = {"flood": some_activity(900), **{f"u{i}": some_activity(5) for i in range(20)}}
    funnel = Funnel()
    assert "flood" not in regular_users(activity, Rule(), funnel)
    assert [step for step, _, _ in funnel.rows][-1].startswith("top 1%")
    kept = CappedPosts(3, 0)
    for i in range(900):
        kept.add("flood", str(i), i)
    for i in range(5):
        kept.add("u1", str(i), i)
    assert list(kept.counts()) == [3, 3]
    backwards = CappedPosts(3, 0)
    for i in reversed(range(900)):
        backwards.add("flood", str(i), i)
    assert backwards.items() == kept.items()[:3], "what is kept must not depend on the order of the stream"


def test_bots_moderators_and_passers_by_are_left_out():
    activity = {f"u{i}": some_activity(5) for i in range(4)}
    activity |= {
        "bot": some_activity(3, copies=9),
        "mod": some_activity(9, staff=True),
        "once": some_activity(2),
        "burst": some_activity(9, months=1),
    }
    assert regular_users(activity, Rule(top_share=0), Funnel()) == {"u0", "u1", "u2", "u3"}
    with pytest.raises(UserError, match="0 of 8 users write regularly enough"):
        regular_users(activity, Rule(min_posts=50), Funnel())


def some_lexicon():
    """A forum's ordinary words: five people who write the same sentence, and names with capitals."""
    lexicon = Lexicon(extra=frozenset({"clozapine"}))
    for i in range(6):
        lexicon.add(
            "Someone says my sister buys reading glasses and we live in a flat. Anyway the friend will rise",
            f"user {i}",
        )
    lexicon.add("then Rose and Will came, said Rose", "user 1")
    return lexicon


HANDMADE = [
    ("write to jo.bloggs99@mail.example.org please", ["jo.bloggs99@mail.example.org"]),
    ("or jo (at) mail (dot) com", ["jo (at) mail (dot) com"]),
    ("see www.blog.example/a?b=1, or blog.example.org.", ["www.blog.example/a?b=1", "blog.example.org"]),
    ("ring 07700 900123 or (555) 010-4477", ["07700 900123", "(555) 010-4477"]),
    ("@moon_child and u/moonchild said so", ["@moon_child", "u/moonchild"]),
    ("since 3rd March 2019, so 2019-03-03 or 3/3/19", ["3rd March 2019", "2019-03-03", "3/3/19"]),
    ("I'm 34 and my dose is 34 mg at 34 Hill Street", ["I'm 34", "34 Hill Street"]),
    ("my sister hannah lives here", ["hannah"]),
    ("my sister buys glasses", []),
    ("I live in Reading with cats. Reading glasses", ["Reading"]),
    ("we live in a flat", []),
    ("Dr. O'Connor and nurse McBride", ["O'Connor", "McBride"]),
    ("Someone takes Clozapine. Anyway", []),
    ("Thanks for that\n- Mei", ["Mei"]),
    ("met faith achterberg there", ["faith achterberg"]),
]


@pytest.mark.parametrize(("text", "personal"), HANDMADE)
def test_rules_find_what_is_personal_and_little_else(text, personal):
    cues = CueFinder(some_lexicon())
    found = united([*find_forms(text), *cues(text)])
    assert [text[f.start : f.end] for f in found if text[f.start : f.end] not in ("there", "here")] == personal


def test_a_name_once_learned_is_taken_out_of_all_posts_of_its_user():
    lexicon = some_lexicon()
    machine = Deidentifier([CueFinder(lexicon, ["blueFox7", "someone"])], lexicon)
    machine.learn("My friend Rose drove me. Thanks bluefox7", ["ann"])
    text = "Rose says the prices rise. rose water"
    assert [text[f.start : f.end] for f in machine.find(text, [], ["ann"])][:1] == ["Rose"]
    assert machine.find("Will says so", [], ["bob"]) == []
    found = machine.learn("thanks bluefox7 and someone", ["ann"])
    assert found == [Found(7, 15, "HANDLE")]
    made = scrub("thanks bluefox7 for it", found, [Span(0, 22)])
    assert made.text == "thanks [HANDLE] for it" and made.spans[0] == Span(0, 22)


def test_pseudonyms_need_the_salt():
    assert user_hash("ann", b"a") == user_hash("ann", b"a") != user_hash("ann", b"b")
    assert "ann" not in user_hash("ann", b"a")


def test_recall_and_precision_by_hand():
    planted = [Found(0, 5, "NAME"), Found(10, 20, "PLACE")]
    found = [Found(0, 6, "NAME"), Found(10, 15, "PLACE"), Found(30, 34, "NAME")]
    every = judge([(planted, found)])[-1]
    assert (every.planted, every.missed, every.removed, every.wrong) == (2, 1, 3, 1)
    assert every.recall == 0.5 and every.precision == pytest.approx(2 / 3)
    assert judge([(planted, [Found(8, 14, "X"), Found(14, 22, "X"), Found(0, 5, "X")])])[-1].recall == 1


def test_presidio_finds_names_that_no_rule_knows_and_fetches_nothing(monkeypatch):
    pytest.importorskip("presidio_analyzer")
    import socket

    from stillhouse.corpus.presidio import PresidioFinder

    monkeypatch.setattr(socket.socket, "connect", lambda *_: (_ for _ in ()).throw(AssertionError("asked the network")))
    finder = PresidioFinder(some_lexicon())
    text = "Then Angela Merkel went to Berlin and rang 212-555-0187."
    kinds = {text[f.start : f.end]: f.kind for f in finder(text)}
    assert kinds.get("Angela Merkel") == "NAME" and kinds.get("Berlin") == "PLACE"


def test_k_anonymity_by_hand():
    rows = [
        {"age": str(a), "since": y} for a, y in ((31, "2020"), (33, "2020"), (38, "2020"), (52, "2020"), (57, "2021"))
    ]
    made, suppressed = k_anonymous(rows, {"age": (band(10), hidden), "since": (hidden,)}, 2)
    assert [row["age"] for row in made] == ["30-39", "30-39", "30-39", "50-59", "50-59"]
    assert rarest_class([tuple(row.values()) for row in made]) >= 2 and suppressed == 0
    lonely = [{"age": "31"}] * 4 + [{"age": "77"}]
    made, suppressed = k_anonymous(lonely, {"age": (band(10),)}, 2)
    assert rarest_class([tuple(row.values()) for row in made]) >= 2, "one hidden row alone is no crowd"
    assert suppressed == 5


def test_released_text_shares_no_run_of_words_with_its_source():
    text = "I really can't sleep at night because the voices keep me awake until four in the morning, and my doctor says it helps to walk"
    answer = Span(text.index("awake until"), text.index(", and"))
    source = [word for word, _, _ in tokens(text)]
    made = obscure(text, [source], 5, 0, [answer])
    left = set(grams([w for w, _, _ in tokens(made.text)], 5)) & set(grams(source, 5))
    assert not left
    assert made.spans[0].of(made.text).startswith("awake") and len(made.text) > 0.7 * len(text)
    strange = "zebra quagga okapi tapir gnu eland kudu oryx"
    assert LEFT_OUT in obscure(strange, [strange.split()], 4, 0).text, (
        "without a synonym a word is left out, and marked"
    )
    lookup = Lookup([made.text, text], 5)
    lookup.search(text)
    assert set(lookup.found) == {1}


def some_questions(users=10, each=3):
    """Questions on short passages, every third unanswerable."""
    made = []
    for u in range(users):
        for i in range(each):
            context = f"User {u} says: number {i} keeps me up, 😔 every night."
            answers = (Span(context.index("number"), context.index(" keeps")),) if i % 3 else ()
            made.append(Question(f"{u}-{i}", "What keeps the writer up?", context, answers, f"user-{u}", "sleep"))
    return made


def test_squad_files_come_back_as_they_went(tmp_path):
    questions = some_questions()
    write_squad(questions, tmp_path / "a.json")
    assert list(read_squad(tmp_path / "a.json")) == questions
    raw = json.loads((tmp_path / "a.json").read_text())
    assert raw["version"] == "v2.0" and raw["data"][0]["paragraphs"][0]["qas"][0]["is_impossible"]
    raw["data"][0]["paragraphs"][1]["qas"][0]["answers"][0]["answer_start"] += 1
    (tmp_path / "b.json").write_text(json.dumps(raw))
    with pytest.raises(UserError, match="question 0-1 is not at character"):
        read_squad(tmp_path / "b.json")
    raw = json.loads((tmp_path / "a.json").read_text())
    raw["data"][1]["paragraphs"][0]["qas"][0]["id"] = "0-0"
    (tmp_path / "c.json").write_text(json.dumps(raw))
    with pytest.raises(UserError, match="id 0-0 twice"):
        read_squad(tmp_path / "c.json")
    (tmp_path / "d.json").write_text('{"rows": []}')
    with pytest.raises(UserError, match="not a SQuAD file"):
        read_squad(tmp_path / "d.json")


def test_no_user_is_in_two_splits_and_a_random_split_leaks():
    questions = some_questions(20, 6)
    made = split_questions("x", questions)
    users = [{q.group for q in part} for part in (made.train, made.select, made.report)]
    assert not (users[0] & users[1] or users[0] & users[2] or users[1] & users[2])
    assert sum(map(len, (made.train, made.select, made.report))) == len(questions)
    assert [len(u) for u in users] == [14, 3, 3]
    random_split = split_questions("x", questions, "random")
    assert {q.group for q in random_split.train} & {q.group for q in random_split.report}
    contexts = [{q.context for q in part} for part in (random_split.train, random_split.report)]
    assert not contexts[0] & contexts[1], "a passage is not in two splits even then"
    with pytest.raises(UserError, match="2 users, three are needed"):
        split_questions("x", some_questions(2))


def test_long_documents_are_cut_around_the_answer():
    text = "\n".join(f"Paragraph {i} is about the number {i * i}." for i in range(100))
    start = text.index("number 2500")
    whole = Question("q", "?", text, (Span(start, start + 11),), "doc")
    (cut,) = passages([whole], 300)
    assert cut.golds == ("number 2500",) and len(cut.context) < 400 and cut.context in text
