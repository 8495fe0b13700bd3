"""Distiller: the guide, one pipeline, the search and what it is resumed from, AutoDistiller, bad input."""

import dataclasses
import itertools
import json
from typing import get_args
from unittest import mock

import numpy as np
import pytest
import torch

import stillhouse
from rows import ROWS
from stillhouse import launch
from stillhouse.cli import dispatch
from stillhouse.core.errors import UserError
from stillhouse.core.importance import Factor
from stillhouse.core.run import Run
from stillhouse.encoders.models import Outputs, Shape
from stillhouse.encoders.outputs import TeacherBatch
from stillhouse.encoders.training import score_model
from stillhouse.methods import distiller
from stillhouse.methods.distiller import autodistiller, study
from stillhouse.methods.distiller.autodistiller import (
    AutoDistiller,
    LeftOut,
    Study,
    Trial,
    leave_one_family_out,
    random_regret,
)
from stillhouse.methods.distiller.config import Config, Intermediate, Pipeline
from stillhouse.methods.distiller.guide import Balance, Guide, pairs_of
from stillhouse.methods.distiller.peers import majority, tfidf_regression
from stillhouse.methods.distiller.recommend import trust
from stillhouse.methods.distiller.single import compared_pipelines
from stillhouse.methods.distiller.task import open_task
from text_samples import some_bert, some_texts, some_tokenizer

TINY = {**ROWS["distiller"], "intermediate": "mse", "augmentation": (), "mixup": False, "compare": "none"}
SMALL, LARGE = Shape(1, 8, 2, 16, 8), Shape(3, 12, 2, 24, 12)


def outputs(shape, batch=8, tokens=4, grad=False):
    hidden = tuple(torch.randn(batch, tokens, shape.width, requires_grad=grad) for _ in range(shape.layers + 1))
    attention = tuple(torch.rand(batch, shape.heads, tokens, tokens).softmax(-1) for _ in range(shape.layers))
    return Outputs(torch.randn(batch, 2), hidden, attention)


def told(out):
    states, shares = dict(enumerate(out.hidden)), dict(enumerate(out.attention))
    return TeacherBatch(out.logits, torch.stack([h[:, 0] for h in out.hidden], 1), states, shares)


OBJECTIVES = [name for name in get_args(Intermediate) if name != "none"]


@pytest.mark.parametrize(("objective", "mapping"), itertools.product(OBJECTIVES, ("skip", "last", "emd")))
def test_every_objective_works_with_every_mapping(objective, mapping):
    torch.manual_seed(0)
    guide = Guide(Pipeline(intermediate=objective, mapping=mapping), SMALL, LARGE)
    ours, theirs = outputs(SMALL, grad=True), told(outputs(LARGE))
    if objective.startswith("att"):
        ours = ours._replace(attention=tuple(a.requires_grad_() for a in ours.attention))
    loss = guide(ours, theirs, torch.ones(8, 4, dtype=torch.bool), learn_student=True)
    loss.backward()
    reached = [t.grad is not None and bool(t.grad.abs().sum() > 0) for t in (*ours.hidden, *ours.attention)]
    assert loss.isfinite() and any(reached)
    assert len(guide.critics) == (len(guide.pairs) if objective in ("mi", "nce", "nwj", "tuba") else 0)


def test_critics_learn_alone_at_first():
    torch.manual_seed(0)
    guide = Guide(Pipeline(intermediate="mi"), SMALL, LARGE)
    ours = outputs(SMALL, grad=True)
    guide(ours, told(outputs(LARGE)), torch.ones(8, 4, dtype=torch.bool), learn_student=False).backward()
    assert all(h.grad is None for h in ours.hidden)
    assert all(p.grad is not None for p in guide.critics[0].of_teacher.parameters())


def test_flow_weights_of_layers_move_and_sum_to_one():
    torch.manual_seed(0)
    guide = Guide(Pipeline(intermediate="mse", mapping="emd"), SMALL, LARGE)
    before = guide.teacher_weights.clone()
    guide(outputs(SMALL), told(outputs(LARGE)), torch.ones(8, 4, dtype=torch.bool), learn_student=True)
    assert not guide.teacher_weights.equal(before)
    assert float(guide.teacher_weights.sum()) == pytest.approx(1) and float(
        guide.student_weights.sum()
    ) == pytest.approx(1)


def test_balance_gives_the_gradients_their_ratio():
    weights = [torch.nn.Parameter(torch.tensor([1.0, 2.0]))]
    one, two = 3 * weights[0].sum(), 1000 * weights[0].square().sum()
    balance = Balance(0.5)
    factor = balance.factor(one, two, weights)
    sizes = [torch.autograd.grad(loss, weights, retain_graph=True)[0].norm() for loss in (one, factor * two)]
    assert float(sizes[1] / sizes[0]) == pytest.approx(0.5, rel=1e-4)
    copy = Balance(0.5)
    copy.load_state_dict(balance.state_dict())
    assert copy.factor(one, two, weights) == factor


def test_controls_are_the_pipeline_without_its_parts():
    whole = Pipeline(("swap",), True, "mi", 0.5, "emd", "ce", 0.2)
    found = compared_pipelines(whole)
    assert (
        found["student without distillation"].hard_weight == 1
        and not found["student without distillation"].augmentation
    )
    assert found["student without the intermediate loss"].augmentation == ("swap",)
    assert found["student without augmentation"].intermediate == "mi"
    assert list(compared_pipelines(Pipeline())) == ["student without distillation"]


def test_mapping_of_a_pipeline():
    assert pairs_of(Pipeline(intermediate="mse"), SMALL, LARGE) == ((0, 0), (1, 3))
    assert pairs_of(Pipeline(), SMALL, LARGE) == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"intermediate": "mi", "batch": 4}, "batch of 4 is too small for mi.*--batch 8 or more"),
        ({"trials": 5, "batch": 4}, "batch of 4 is too small"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"hard_weight": -0.1}, "hard_weight"),
        ({"augmentation": ("synonyms",)}, "synonyms need a thesaurus"),
        ({"augmentation": ("back-translation",)}, "needs two translation models"),
        ({"temperature": 0.0}, "temperature is 0"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        Config(**options)


@pytest.fixture
def run(tmp_path):
    with Run.create("distiller", {"seed": 0}, out=tmp_path / "run", quiet=True) as opened:
        yield opened


def tiny(**options):
    return launch.with_options(distiller.PRESETS["laptop"], {**TINY, **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 64}, "width 64 is wider than its teacher of 32; use --width 32"),
        ({"layers": 5}, "5 layers is deeper than its teacher of 2"),
        ({"data": "none.csv"}, "no data 'none.csv'"),
        ({"teacher": "none"}, "no transformers model in none"),
        ({"width": 16}, "cannot take over layers of width 32; use --init random"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(run, options, words):
    with pytest.raises(UserError, match=words):
        open_task(tiny(**options), run).fresh_student(0)


@pytest.fixture
def teacher_folder(tmp_path):
    torch.manual_seed(0)
    texts = some_texts(60)
    model, tokenizer = some_bert(len(some_tokenizer(texts))), some_tokenizer(texts)
    folder = tmp_path / "teacher"
    model.config.id2label, model.config.label2id = {0: "1", 1: "0"}, {"1": 0, "0": 1}
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = [{"text": t, "label": str(y)} for t, y in zip(texts.first, texts.labels, strict=True)]
    data = tmp_path / "mine.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder, data


def test_own_teacher_keeps_its_classes(teacher_folder, run):
    folder, data = teacher_folder
    before = some_bert(1).config.id2label
    assert before == {0: "LABEL_0", 1: "LABEL_1"}
    task = open_task(tiny(data=str(data), teacher=str(folder), examples=0), run)
    assert task.data.class_names == ("0", "1") and task.teacher.model.config.id2label == {0: "0", 1: "1"}
    # the folder's first output means class "1"
    from stillhouse.encoders.models import load_classifier

    swapped = load_classifier(folder)
    items = task.teacher_items(task.data.report)
    ours = score_model(task.teacher.model, items, "accuracy")
    theirs = score_model(swapped, items, "accuracy")
    assert ours == pytest.approx(1 - theirs)


def test_teacher_of_other_classes_or_fewer_positions_is_refused(teacher_folder, run, tmp_path):
    folder, data = teacher_folder
    with pytest.raises(UserError, match=r"max_tokens is 48, the model in .* reads 32"):
        open_task(tiny(data=str(data), teacher=str(folder), examples=0, max_tokens=48), run)
    data.write_text(data.read_text().replace('"label": "1"', '"label": "one"'), encoding="utf-8")
    with pytest.raises(UserError, match="has the classes 1, 0, mine has 0, one"):
        open_task(tiny(data=str(data), teacher=str(folder), examples=0), run)


def test_student_folder_with_another_tokenizer_is_refused(teacher_folder, run, tmp_path):
    folder, data = teacher_folder
    other = some_tokenizer(some_texts(30, classes=4, seed=9), pieces=50)
    some_bert(len(other), layers=1).save_pretrained(tmp_path / "small")
    other.save_pretrained(tmp_path / "small")
    options = {"data": str(data), "teacher": str(folder), "examples": 0}
    with pytest.raises(UserError, match="is not the teacher's"):
        open_task(tiny(**options, student=str(tmp_path / "small")), run)
    some_tokenizer(some_texts(60)).save_pretrained(tmp_path / "small")
    some_bert(len(some_tokenizer(some_texts(60))), layers=1).save_pretrained(tmp_path / "small")
    task = open_task(tiny(**options, student=str(tmp_path / "small")), run)
    assert task.shape.layers == 1 and task.fresh_student(0).config.model_type == "bert"


def test_peers_learn_what_the_words_tell():
    texts = some_texts(80)
    rows = list(texts.first), None, [str(y) for y in texts.labels]
    from stillhouse.encoders.data import make_data

    data = make_data("words", *rows)
    assert tfidf_regression(data)[0] > 0.85 and majority(data) == pytest.approx(0.5, abs=0.1)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search that stops in its fourth trial and is resumed."""
    folder = tmp_path_factory.mktemp("search") / "run"
    options = {**TINY, "trials": 12, "trial_updates": 2, "search": "balanced", "updates": 2}
    config = launch.with_options(distiller.PRESETS["laptop"], options)
    distil, seen = study.distil_student, []

    class Killed(Exception):
        pass

    def killing(*args, **kwargs):
        seen.append(1)
        if len(seen) == 4:
            raise Killed
        return distil(*args, **kwargs)

    study.distil_student = killing
    try:
        with pytest.raises(Killed):
            launch.start("distiller", config, out=folder, quiet=True)
    finally:
        study.distil_student = distil
    before = study.finished(study.open_study(folder / "study.journal", config))
    # the shell that started it is closed meanwhile: another process is its parent now
    with mock.patch("os.getppid", side_effect=itertools.count(2)):
        return stillhouse.resume(folder, quiet=True), before, config


def test_search_loses_no_finished_trial(searched):
    run, before, config = searched
    after = study.finished(study.open_study(run.folder / "study.journal", config))
    assert len(before) == 3 and after[:3] == before
    assert len(after) == 12, "the killed trial was tried again"
    counts = np.bincount([t.levels["mixup"] == "yes" for t in after])
    assert counts.tolist() == [6, 6], "the design is whole"


def test_search_ends_in_tables_and_the_best_pipeline(searched):
    run, _, config = searched
    titles = [table.title for table in run.result.tables]
    assert {"Which choices matter", "Main effects", "The best trials", "Quality against size"} <= set(titles)
    table = next(t for t in run.result.tables if t.title == "Which choices matter")
    assert any("noise floor" in str(row[0]) for row in table.rows)
    best = study.best_of(study.finished(study.open_study(run.folder / "study.journal", config)))
    assert run.result.arm("student").note.startswith(study.pipeline_of(best.levels, config).words())


def test_search_is_remembered_for_recommendations(searched):
    names = [s.data for s in autodistiller.read_studies([autodistiller.own_studies()])]
    assert "docstrings" in names


def test_journal_of_another_version_is_refused(searched, tmp_path):
    run, _, config = searched
    journal = (run.folder / "study.journal").read_text(encoding="utf-8")
    other = tmp_path / "study.journal"
    other.write_text(journal.replace(study.FORMAT, "distiller study 0"), encoding="utf-8")
    with pytest.raises(UserError, match="is of another version or space"):
        study.open_study(other, config)
    other.write_text("not a journal\n" * 3, encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        study.open_study(other, config)


def made_up(data, best, seed):
    """A study in which one objective is best."""
    random = np.random.default_rng(seed)
    factors = study.space(Config())
    trials = []
    for _ in range(30):
        levels = {f.name: f.levels[int(random.integers(len(f.levels)))] for f in factors}
        quality = (
            0.6 + 0.2 * (levels["intermediate"] == best) + 0.05 * (levels["mixup"] == "yes") + random.normal(0, 0.01)
        )
        trials.append(Trial(levels, quality, quality, 1.0, 1000))
    return Study(data, data, {"classes": float(seed), "log texts": 3.0}, 0.9, tuple(trials))


def test_autodistiller_recommends_what_was_good_elsewhere():
    studies = [made_up(f"set {i}", "cos", i) for i in range(3)]
    model = AutoDistiller(studies, study.space(Config()))
    top = model.recommend({"classes": 1.0, "log texts": 3.0}, 3)
    assert all(one.levels["intermediate"] == "cos" for one in top) and top[0].levels["mixup"] == "yes"
    assert top[0].share == pytest.approx(0.85 / 0.9, abs=0.08)
    assert model.nearest({"classes": 2.1, "log texts": 3.0})[0][0] == "set 2"
    judged = leave_one_family_out(studies, study.space(Config()))
    assert all(j.regret < j.random_regret and j.spearman > 0.4 for j in judged)


def test_random_regret_is_the_mean_over_all_draws():
    scores = np.array([0.1, 0.5, 0.4, 0.9, 0.2])
    by_hand = np.mean([(0.9 - max(c)) / (0.9 - scores.mean()) for c in itertools.combinations(scores, 3)])
    assert random_regret(scores, 3) == pytest.approx(by_hand)


def test_one_data_set_is_not_enough_to_recommend():
    with pytest.raises(UserError, match="fewer than two data sets"):
        AutoDistiller([made_up("a", "cos", 0)], (Factor("intermediate", ("cos",)),))


def test_recommend_says_at_once_that_it_knows_too_little(monkeypatch):
    monkeypatch.setattr("stillhouse.methods.distiller.recommend.known_studies", list)
    monkeypatch.setattr(
        "stillhouse.methods.distiller.recommend.open_task", lambda *_: pytest.fail("a teacher was made")
    )
    with pytest.raises(UserError, match="fewer than two data sets are known; run a search"):
        dispatch(["recommend", "--data", "docstrings"])


def test_recommendations_say_how_good_they_were_on_data_left_out():
    useless = [LeftOut("a", 0.1, 0.6, 0.5), LeftOut("b", -0.1, 0.4, 0.5)]
    assert "0.50 of the possible regret, three at random 0.50 (no better than chance)" in trust(useless)
    assert "correlates 0.00" in trust(useless)
    assert "(better than chance)" in trust([LeftOut("a", 0.5, 0.2, 0.5)])


def test_recommend_command(teacher_folder, monkeypatch, capsys):
    folder, data = teacher_folder
    names = ("log texts", "classes", "teacher score")
    studies = [
        dataclasses.replace(made_up(f"set {i}", "cos", i), features=dict.fromkeys(names, float(i))) for i in range(2)
    ]
    monkeypatch.setattr("stillhouse.methods.distiller.recommend.known_studies", lambda: studies)
    dispatch(["recommend", "--data", str(data), "--teacher", str(folder), "--layers", "1", "--max-tokens", "24"])
    said = capsys.readouterr()
    assert "1. cos" in said.out and "most like: set 1" in said.out and "how sure:  not known" in said.out
    assert "stillhouse run distiller --data" in said.err and "--intermediate cos" in said.err
