"""Generation filters and text metrics: closed forms, hand-computed cases, brute force."""

import itertools
import math
import random
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.corpus import everyday
from stillhouse.corpus.diversity import best_of_components, components, duplicate_edges
from stillhouse.corpus.leakage import Seen
from stillhouse.corpus.near_duplicates import first_of_near_duplicates, jaccard, shingles
from stillhouse.corpus.numbers import numbers, numbers_agree
from stillhouse.corpus.rouge import common_subsequence, rouge_l, words
from stillhouse.corpus.sentences import fault, first_sentence, latin_share, repeats, split_sentences
from stillhouse.corpus.text_metrics import (
    bert_ibleu,
    bleu,
    greedy_match,
    ibleu,
    mean_segmental_ttr,
    ngram_entropy,
)
from stillhouse.corpus.tree_distance import Tree, cut_tree, distance_at_least, lower_bound, parse, tree_edit_distance

WORDS = st.lists(st.sampled_from("abcd"), max_size=9)


@given(WORDS, WORDS)
@settings(max_examples=150, deadline=None)
def test_common_subsequence_is_the_dynamic_programmes(x, y):
    table = np.zeros((len(x) + 1, len(y) + 1), int)
    for i, j in itertools.product(range(len(x)), range(len(y))):
        table[i + 1, j + 1] = table[i, j] + 1 if x[i] == y[j] else max(table[i, j + 1], table[i + 1, j])
    assert common_subsequence(x, y) == table[-1, -1]


def test_rouge_l_by_hand():
    # "the gunman ... police": Lin's example, three words in order of four each
    assert rouge_l(words("police killed the gunman"), words("police kill the gunman")) == 0.75
    assert rouge_l(words("police killed the gunman"), words("the gunman kill police")) == 0.5
    assert rouge_l(words("a b c d"), words("a b")) == pytest.approx(2 / 3), "neither recall nor precision alone"
    assert rouge_l([], words("a")) == 0.0 and rouge_l(words("a b"), words("a b")) == 1.0


def test_common_subsequence_of_long_texts_crosses_machine_words():
    x = [str(i) for i in range(500)]
    assert common_subsequence(x, x[::2]) == 250


def test_numbers_in_digits_and_words():
    found = numbers("Twelve hundred and five men, 1,200 boats, 3.50 crowns, twenty-one and 7")
    assert set(found) == {Decimal(1205), Decimal(1200), Decimal("3.5"), Decimal(21), Decimal(7)}
    assert not numbers("one of them, and the hundred metres they ran")
    assert set(numbers("two, three or four")) == {Decimal(2), Decimal(3), Decimal(4)}
    assert numbers("two hundred and five thousand") == {Decimal(205_000): 1}


def test_numbers_agree_in_both_directions():
    many, few = numbers("five boats and 3 men"), numbers("3 men")
    assert numbers_agree(many, few, both_ways=False)
    assert not numbers_agree(few, many, both_ways=False)
    assert not numbers_agree(many, few, both_ways=True), "a number that the output lost must be seen"
    assert numbers_agree(numbers("three men"), few, both_ways=True)


def test_the_best_of_each_component_stays():
    # 0 - 1 - 2 and 3 alone
    found = components([(0, 1), (1, 2)], 4)
    assert len(set(found.tolist())) == 2 and found[0] == found[2] != found[3]
    assert best_of_components(found, np.array([0.8, 0.9, 0.9, 0.1])) == [1, 3]
    assert components([], 0).tolist() == []


def test_pairs_are_joined_by_either_side():
    entails = np.eye(6, dtype=bool)
    entails[0, 2] = True  # x of the first pair entails x of the second
    entails[5, 3] = True  # y of the third entails y of the second
    assert duplicate_edges([(0, 1), (2, 3), (4, 5)], entails) == [(0, 1), (1, 2)]


def test_tree_distance_by_hand():
    a = Tree("f", (Tree("d", (Tree("a"), Tree("c", (Tree("b"),)))), Tree("e")))
    b = Tree("f", (Tree("c", (Tree("d", (Tree("a"), Tree("b"))),)), Tree("e")))
    assert tree_edit_distance(a, b) == 2  # Zhang and Shasha's own example
    assert cut_tree(a, 2) == Tree("f", (Tree("d"), Tree("e")))
    assert lower_bound(a, b) == 0 <= tree_edit_distance(a, b)


LABELS = st.sampled_from("xyz")
TREES = st.recursive(
    st.builds(Tree, LABELS), lambda t: st.builds(Tree, LABELS, st.lists(t, max_size=3).map(tuple)), max_leaves=5
)


@given(TREES, TREES)
@settings(max_examples=100, deadline=None)
def test_bounds_never_contradict_the_distance(x, y):
    distance = tree_edit_distance(x, y)
    assert lower_bound(x, y) <= distance
    assert all(distance_at_least(x, y, t) == (distance >= t) for t in range(14))


def test_passive_is_another_tree_and_a_name_is_not():
    active, other, passive = parse(
        ["Anna met the mayor in Oslo.", "Boris met the nurse in Lima.", "The mayor was met by Anna in Oslo."]
    )
    assert tree_edit_distance(active, other) == 0
    assert tree_edit_distance(active, passive) >= 3


def test_near_duplicates_keep_the_first_and_know_the_order_of_a_pair():
    x, y = "Anna bought three lamps in Oslo on Monday for the mayor", "Three lamps were bought by Anna"
    kept = first_of_near_duplicates(
        [(x, y), (x + "!", y), (y, x), ("Boris met the nurse", "The nurse was met by Boris")]
    )
    assert kept == [0, 2, 3]
    assert jaccard(shingles("a b c d"), shingles("a b c e")) == pytest.approx(1 / 3)


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_near_duplicates_are_those_of_an_exact_comparison(threshold):
    draw = random.Random(0)
    pairs = [("a b c d e f g h i j k l", "m n o p q r s t")]
    for _ in range(300):
        parts = [text.split() for text in draw.choice(pairs)]
        for _ in range(draw.randrange(3)):
            part = draw.choice(parts)
            part[draw.randrange(len(part))] = draw.choice("abcdefghijklmnopqrstuvwxyz")
        pairs.append(tuple(map(" ".join, parts)))
    kept: dict[int, frozenset[str]] = {}
    for place, parts in enumerate(pairs):
        runs = frozenset(f"{n} {run}" for n, part in enumerate(parts) for run in shingles(part))
        if all(jaccard(runs, other) < threshold for other in kept.values()):
            kept[place] = runs
    assert first_of_near_duplicates(pairs, threshold) == list(kept)
    assert 1 < len(kept) < len(pairs)


def test_sentences_end_where_they_end():
    text = 'Dr. Smith paid 3.50 crowns. "Why?" he said. And then'
    assert list(split_sentences(text)) == ["Dr. Smith paid 3.50 crowns.", '"Why?"', "he said."]
    assert first_sentence("no end in sight") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("  \n", "empty"),
        ("no end in sight", "unfinished"),
        ("and so on " * 80, "endless"),
        ("Она купила три лампы.", "other script"),
        ("caf\ufffd is open.", "broken text"),
        ("the the the cat sat.", "repeats itself"),
        ("Zoë met the mayor.", None),
    ],
)
def test_what_is_wrong_with_a_continuation(text, why):
    assert fault(text) == why


def test_script_and_repetition():
    assert latin_share("abc абв") == 0.5 and latin_share("123") == 0.0
    assert repeats("in a in a in a row") and not repeats("in a in a row")


def test_ibleu_and_bert_ibleu_by_hand():
    x, y = "Anna bought three lamps.", "Three lamps were purchased by Anna."
    assert bleu(x, [x]) == pytest.approx(1)
    assert ibleu(x, [y], x) == pytest.approx(0.8 * bleu(x, [y]) - 0.2)
    assert bert_ibleu(0.9, 1.0) == 0.0, "a copy scores nothing"
    assert bert_ibleu(0.8, 0.2) == pytest.approx(0.8)
    assert bert_ibleu(0.5, 0.0) == pytest.approx(5 / (4 / 0.5 + 1))


def test_greedy_match_by_hand():
    x, y = np.eye(3)[:2], np.eye(3)[1:2]
    # every token of y is in x (precision 1), half of x's are in y (recall 1/2)
    assert greedy_match(x, y) == pytest.approx(2 / 3)
    assert greedy_match(x, np.zeros((0, 3))) == 0.0


def test_variety_of_words():
    assert mean_segmental_ttr(["a b c d", "a a a a"], segment=4) == pytest.approx((1 + 0.25) / 2)
    assert ngram_entropy(["a b", "c d", "a b", "c d"], 2) == pytest.approx(1.0)
    assert ngram_entropy(["a b c d e"], 2) == pytest.approx(math.log2(4))


def test_leakage_sees_sentences_and_runs_of_words():
    seen = Seen(["One two three four five six seven eight nine."], run=8)
    assert seen.verbatim("one, two three four five six seven eight nine!")
    assert seen.share_of_runs("zero one two three four five six seven eight") == pytest.approx(0.5)
    assert not seen.verbatim("one two three")


def test_grammar_reads_what_it_says():
    random = np.random.default_rng(0)
    for _ in range(300):
        fact = everyday.draw_fact(str(random.choice(everyday.ORDER)), everyday.draw_state(random), random)
        assert everyday.read_fact(everyday.say(fact, random)) == fact
    assert everyday.read_fact("Anna bought three lamps on Monday on Tuesday.") is None
    assert everyday.read_fact("The cat sat on the mat.") is None


def test_grammar_knows_what_follows():
    long, short = "On Monday, Anna bought 3 lamps.", "Three lamps were purchased by Anna."
    x, y = everyday.read_fact(long), everyday.read_fact(short)
    assert x.entails(y) and not y.entails(x)
    assert everyday.same_meaning(short, "Anna bought 3 lamps.")
    assert not everyday.same_meaning(short, "Anna bought 4 lamps.")
    assert everyday.same_meaning("nonsense", short) is None


def test_splits_share_no_event_and_labels_are_true():
    told = {fact for facts in everyday.everyday_stories(200).facts for fact in facts}
    assert not told & set(everyday.held_out_facts("report", 50))
    first, second, labels = everyday.labelled_pairs(200, split="select")
    facts = [(everyday.read_fact(a), everyday.read_fact(b)) for a, b in zip(first, second, strict=True)]
    assert [a.entails(b) for a, b in facts] == labels
    assert 0.35 < np.mean(labels) < 0.65
    assert all(everyday.split_of(a) == "select" for a, _ in facts)


def test_no_story_tells_an_event_twice():
    for facts in everyday.everyday_stories(100).facts:
        assert len({fact.kind for fact in facts}) == len(facts)
