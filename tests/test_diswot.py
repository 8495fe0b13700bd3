"""DisWOT: scores against their definitions, proxies against closed forms, search, distillers, and what a user can get wrong."""

import copy
import json
import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

import stillhouse
from rows import ROWS
from stillhouse.core.errors import UserError
from stillhouse.core.seeding import generator
from stillhouse.methods.diswot import Config, commands, distillers, kd_proxies, proxies, scores
from stillhouse.methods.diswot.accuracy_table import read_accuracies
from stillhouse.methods.diswot.distillation import cached_teacher, distillation, online_teacher
from stillhouse.methods.diswot.distillers import LOSSES, classifier_gradient
from stillhouse.methods.diswot.initialise import initialise
from stillhouse.methods.diswot.scoring import (
    SCORES,
    Setting,
    look,
    make_judge,
    mean_and_spread,
    places_in,
    seconds_a_score,
)
from stillhouse.methods.diswot.search import Bounds, Plan, propose, search
from stillhouse.vision.cells import cell_description, cell_of
from stillhouse.vision.classes import Batch
from stillhouse.vision.costs import parameters
from stillhouse.vision.ranking import rank_sum
from stillhouse.vision.resnets import CifarResNet
from stillhouse.vision.spaces import load_space
from stillhouse.vision.training import Recipe, draw
from test_vision import CUT, DENSE, some_images

CHEAP = ("nwot", "relation", "live_macs")


def some_batch(size=12, classes=4, side=8, channels=1, seed=0):
    data = some_images(size, classes, side, channels, seed)
    return Batch(data.images, data.labels)


def small_teacher(classes=4, channels=1, widths=(4, 8, 16)):
    torch.manual_seed(0)
    return CifarResNet(channels, classes, (1, 1, 1), widths)


def plain(channels=1, classes=4, width=4):
    """Two convolutions without normalisation."""
    torch.manual_seed(1)
    first, second = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
    return nn.Sequential(
        first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
    )


def seen(network, batch, **options):
    return look(network, batch, places_in(network, batch.shape), **options)


# scores


def test_relation_is_its_definition():
    teacher, student = torch.randn(5, 3, 4, 4), torch.randn(5, 7, 2, 2)
    grams = [normalize(f.flatten(1) @ f.flatten(1).T, dim=1) for f in (teacher, student)]
    wanted = -float((grams[0] - grams[1]).norm() ** 2) / 25
    assert scores.relation(teacher, student) == pytest.approx(wanted, rel=1e-5)
    assert scores.relation(teacher, teacher) == 0


def released_semantic(teacher, student):
    """As the release writes it: [K, C, C] tensors in single precision."""
    grams = [normalize(torch.bmm(g[:, :, None], g[:, None, :]), dim=2) for g in (teacher, student)]
    return -float((grams[0] - grams[1]).square().sum()) / (teacher.shape[0] * teacher.shape[1])


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-5, 3e-7])
def test_semantic_in_closed_form_is_the_released_one_also_where_rows_vanish(size):
    teacher, student = size * torch.randn(6, 9), size * torch.randn(6, 9).exp()
    assert scores.semantic(teacher, student) == pytest.approx(released_semantic(teacher, student), abs=2e-6)
    if size == 3e-7:
        assert scores.vanished(teacher) > 0.9
        assert scores.semantic(teacher, student) != pytest.approx(scores.semantic(teacher, student, 0.0), abs=1e-2)


def test_channel_relation_is_its_definition():
    teacher, student = torch.randn(3, 5, 4, 4), torch.randn(3, 5, 2, 2)
    total = 0.0
    for t, s in zip(teacher.flatten(2), student.flatten(2), strict=True):
        total += float((normalize(t @ t.T, dim=1) - normalize(s @ s.T, dim=1)).norm() ** 2) / 25
    assert scores.channel_relation(teacher, student) == pytest.approx(-total / 3, rel=1e-5)


def test_scores_that_need_equal_sizes_say_so():
    with pytest.raises(UserError, match="the teacher has 5 and the student 4"):
        scores.channel_relation(torch.randn(3, 5, 4, 4), torch.randn(3, 4, 4, 4))
    with pytest.raises(UserError, match="use class_gram"):
        scores.semantic(torch.randn(3, 5), torch.randn(3, 4))
    with pytest.raises(UserError, match="4 classes, the student 3"):
        scores.semantic(torch.randn(4, 5), torch.randn(3, 5))
    assert -1 < scores.class_gram(torch.randn(3, 5), torch.randn(3, 4)) < 0


def test_uniformity_is_one_where_all_are_alike():
    alike = torch.ones(4, 3, 2, 2)
    assert scores.sample_uniformity(alike) == pytest.approx(4**-0.5)
    assert scores.channel_uniformity(alike) == pytest.approx(1)
    assert scores.channel_uniformity(torch.randn(4, 64, 8, 8)) < 0.5


def test_teacher_regression_finds_what_is_linear_and_nothing_in_noise():
    torch.manual_seed(0)
    features = torch.randn(400, 6)
    logits = features @ torch.randn(6, 3)
    assert scores.teacher_regression(features, logits) > 0.99
    assert scores.teacher_regression(torch.randn(400, 6), logits) < 0.05
    assert scores.logit_alignment(features @ torch.linalg.qr(torch.randn(6, 6))[0], features) == pytest.approx(1)


def test_cam_relation_is_one_for_the_same_network_at_another_size():
    maps, weight, labels = torch.rand(6, 4, 8, 8), torch.rand(3, 4), torch.arange(6) % 3
    smaller = nn.functional.avg_pool2d(maps, 2)
    assert scores.cam_relation(maps, smaller, weight, weight, labels) == pytest.approx(1, abs=1e-5)


# proxies


def test_gradient_proxies_by_hand():
    network, batch = plain(), some_batch()
    sight = seen(network, batch)
    nn.functional.cross_entropy(network(batch.images), batch.labels).backward()
    grads = [(m.weight.detach(), m.weight.grad.clone()) for m in network if hasattr(m, "weight")]
    assert SCORES["grad_norm"](sight, sight) == pytest.approx(float(sum(g.norm() for _, g in grads)), rel=1e-4)
    assert SCORES["snip"](sight, sight) == pytest.approx(float(sum((w * g).abs().sum() for w, g in grads)), rel=1e-4)


def test_grasp_is_minus_w_hessian_gradient_by_finite_differences():
    network, batch = plain().double(), some_batch()
    batch = Batch(batch.images.double(), batch.labels)
    weights = [m.weight for m in network if hasattr(m, "weight")]

    def gradient():
        return torch.autograd.grad(nn.functional.cross_entropy(network(batch.images), batch.labels), weights)

    first, step = gradient(), 1e-5
    with torch.no_grad():
        for weight, g in zip(weights, first, strict=True):
            weight += step * g
    moved = gradient()
    with torch.no_grad():
        for weight, g in zip(weights, first, strict=True):
            weight -= step * g
    hessian = [(b - a) / step for a, b in zip(first, moved, strict=True)]
    wanted = -float(sum((w.detach() * h).sum() for w, h in zip(weights, hessian, strict=True)))
    assert proxies.grasp(network, batch) == pytest.approx(wanted, rel=1e-3)


def test_synflow_of_a_linear_chain():
    network = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1)
    )
    for layer, value in ((network[0], -2.0), (network[4], 3.0)):
        layer.weight.data.fill_(value)
    network[4].bias.data.zero_()
    before = copy.deepcopy(network.state_dict())
    score, live = proxies.synflow(network, some_batch())
    assert score == pytest.approx(math.log(2 * 3 * 2)) and live == 64 + 1
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_nwot_counts_equal_codes():
    codes = torch.tensor([[1.0, 1, -1], [1, -1, -1]])
    assert proxies.nwot([codes]) == pytest.approx(math.log(3 * 3 - 2 * 2))
    assert proxies.nwot([torch.ones(2, 3)]) == -math.inf == proxies.nwot([])


def test_jacob_cov_of_independent_samples_is_near_its_maximum():
    network, batch = plain(), some_batch()
    least = -len(batch.labels) * (math.log(1 + 1e-5) + 1 / (1 + 1e-5))
    assert proxies.jacob_cov(network, batch) < least
    same = Batch(batch.images[:1].expand(12, -1, -1, -1), batch.labels)
    assert proxies.jacob_cov(network, same) < proxies.jacob_cov(network, batch)


def test_fisher_of_one_layer_by_hand():
    network, batch = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), some_batch()
    logits = network(batch.images).detach()
    errors = (logits.softmax(1) - nn.functional.one_hot(batch.labels, 4)) / len(batch.labels)
    wanted = float((logits * errors).square().mean(0).sum()) / 2
    assert proxies.fisher(network, batch) == pytest.approx(wanted, rel=1e-4)


def test_zen_grows_with_depth_and_leaves_the_network_as_it_is():
    batch, found = some_batch(), []
    for blocks in (1, 3):
        network = CifarResNet(1, 4, (blocks,) * 3, (4, 8, 8))
        before = copy.deepcopy(network.state_dict())
        torch.manual_seed(0)
        found.append(proxies.zen(network, batch, "layer3"))
        assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert found[1] > found[0]


def test_kd_proxies_are_best_for_the_teacher_itself():
    teacher, other = seen(small_teacher(), some_batch()), seen(CifarResNet(1, 4, (1, 1, 1), (4, 8, 16)), some_batch())
    for name in ("kd", "rkd", "cc", "attention", "nst", "pkt", "relation", "semantic_exact", "channel_relation"):
        assert SCORES[name](teacher, teacher) == pytest.approx(0, abs=1e-5) and SCORES[name](teacher, other) < -1e-5, (
            name
        )
    assert kd_proxies.attention((torch.rand(2, 3, 8, 8),), (torch.rand(2, 5, 4, 4),)) < 0


# judging


def test_every_score_is_finite_and_repeats():
    batch, network = some_batch(24), CifarResNet(1, 4, (1, 1, 1), (4, 8, 16))
    judge = make_judge(Setting(tuple(SCORES), draws=2), [batch, some_batch(24, seed=1)], small_teacher())
    first = judge.score(network)
    assert judge.score(network) == first
    for name, values in first.items():
        assert len(values) == 2 and all(map(math.isfinite, values)), name
        assert values[0] != values[1] or name in ("parameters", "macs", "live_macs", "vanished"), name


def test_a_network_that_is_not_connected_scores_minus_infinity():
    judge = make_judge(
        Setting(("diswot", "nwot", "synflow", "macs"), draws=1),
        [some_batch(side=8)],
        CifarResNet(1, 4, (1, 1, 1), (16, 32, 64)),
    )
    found = judge.score(load_space("cells").build(cell_description(cell_of(CUT)), 1, 4))
    assert found["diswot"] == found["nwot"] == found["synflow"] == (-math.inf,) and found["macs"][0] > 0
    assert mean_and_spread(found["diswot"]) == (-math.inf, 0.0)
    alive = judge.score(load_space("cells").build(cell_description(cell_of(DENSE)), 1, 4))
    assert rank_sum([[found["nwot"][0], alive["nwot"][0]]]).tolist() == [0, 1]


def test_dead_rectifiers_are_seen():
    network = plain()
    network[0].bias.data.fill_(-1e3)
    assert seen(network, some_batch()).dead and not seen(plain(), some_batch()).dead


def test_controls_change_what_the_teacher_says_and_nothing_else():
    batch, network = some_batch(24), CifarResNet(1, 4, (1, 1, 1), (4, 8, 16))
    found = {}
    for state in ("random", "trained", "permuted", "noise"):
        setting = Setting(("relation", "nwot"), draws=1, teacher=state)
        found[state] = make_judge(setting, [batch], small_teacher()).score(network)
    assert len({values["nwot"] for values in found.values()}) == 1
    assert len({values["relation"] for values in found.values()}) == 4


def test_the_given_teacher_is_not_changed():
    teacher = small_teacher()
    before = copy.deepcopy(teacher.state_dict())
    for state in ("random", "trained"):
        make_judge(Setting(CHEAP, draws=1, teacher=state), [some_batch()], teacher)
    assert all(value.equal(before[name]) for name, value in teacher.state_dict().items())


def test_gaussian_initialisation_is_the_published_one():
    network = small_teacher(widths=(16, 32, 64))
    initialise(network, "gaussian", generator(0))
    assert (
        float(network.linear.weight.detach().std()) == pytest.approx(1, abs=0.15)
        and float(network.linear.bias.detach().abs().max()) == 0
    )
    assert float(network.layer3[0].conv1.weight.detach().std()) == pytest.approx(1, abs=0.02)
    initialise(network, "kaiming", generator(0), head_deviation=0.05)
    assert float(network.layer3[0].conv1.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert float(network.linear.weight.detach().std()) == pytest.approx(0.05, rel=0.15)


def test_a_score_is_fast():
    """Half a processor second for 0.3 million parameters at batch 64 is the promise; busy caches may cost twice that."""
    batch = some_batch(64, 10, 32, 3)
    judge = make_judge(Setting(("nwot", "channel_uniformity", "live_macs"), draws=1), [batch], small_teacher(10, 3))
    network = CifarResNet(3, 10, (3, 3, 3), (16, 32, 64))
    assert 200_000 < parameters(network) < 400_000
    assert seconds_a_score(judge, network, 2) < 1


# search


def a_plan(**changes):
    setting = Setting(CHEAP, draws=1)
    plan = Plan(load_space("mobilenets"), setting, Bounds(macs=300_000), evaluations=40, population=16, tournament=4)
    return replace(plan, **changes)


def found_by(plan, **options):
    return search(plan, [some_batch()], small_teacher(), 4, **options)


@pytest.fixture(scope="module")
def evolved():
    return found_by(a_plan())


def test_search_holds_every_network_to_the_bounds_and_keeps_it(evolved):
    assert len(evolved.candidates) == 40
    assert all(candidate.costs.macs <= 300_000 for candidate in evolved.candidates)
    assert len({str(candidate.description) for candidate in evolved.candidates}) == 40
    assert evolved.ranks[evolved.order[0]] == max(evolved.ranks)
    front = evolved.front(lambda costs: costs.macs)
    macs, ranks = [evolved.candidates[i].costs.macs for i in front], [evolved.ranks[i] for i in front]
    assert macs == sorted(macs) and ranks == sorted(ranks) and evolved.order[0] in front


def test_evolution_takes_good_parents(evolved):
    """The last half scores better than what was drawn at random (the released code took parents among the worst)."""
    assert np.mean(evolved.ranks[20:]) > np.mean(evolved.ranks[:16])


def test_a_search_goes_on_where_it_was_killed(evolved, tmp_path):
    file = tmp_path / "search.jsonl"
    part = found_by(a_plan(evaluations=16), file=file)
    assert len(part.candidates) == 16
    text = file.read_text()
    whole = found_by(a_plan(), file=file)
    assert whole.candidates == evolved.candidates
    assert file.read_text().splitlines()[1:17] == text.splitlines()[1:]
    with pytest.raises(UserError, match="another search"):
        found_by(a_plan(seed=1), file=file)
    file.write_text(text[:-20])
    with pytest.raises(UserError, match="cannot be read as a search"):
        found_by(a_plan(), file=file)


def test_workers_find_the_same():
    plan = a_plan(evaluations=6, population=4)
    assert found_by(plan, workers=2).candidates == found_by(plan).candidates


def test_a_small_space_is_searched_whole():
    space = load_space("test_diswot:four")
    found = found_by(a_plan(space=space, bounds=Bounds(), population=2))
    assert len(found.candidates) == 4 == space.size


def four(channels: int, classes: int, *, depth: Literal[1, 2] = 1, width: Literal[4, 8] = 4) -> nn.Module:
    return CifarResNet(channels, classes, (depth, 1, 1), (width, width, 2 * width))


def test_a_bound_that_excludes_all_says_what_the_cheapest_would_be():
    with pytest.raises(UserError, match=r"within 10 MACs; raise the bound: the cheapest had [\d,]+ parameters"):
        propose(a_plan(space=load_space("test_diswot:four"), bounds=Bounds(macs=10)), [], (1, 8, 8), 4)


def test_measured_latency_bounds():
    assert found_by(a_plan(bounds=Bounds(latency_seconds=5.0), evaluations=2)).best.costs.latency_seconds > 0
    with pytest.raises(UserError, match="within 1e-06 ms"):
        found_by(a_plan(space=load_space("test_diswot:four"), bounds=Bounds(latency_seconds=1e-9)))


# distillers


def test_the_classifiers_gradient_is_autograds():
    network, batch = small_teacher(), some_batch()
    sight = seen(network, batch, training=False)
    assert torch.allclose(classifier_gradient(sight.logits, sight.maps, batch.labels), sight.head_gradient, atol=1e-6)


def test_distillers_are_the_scores_with_the_sign_turned():
    teacher, student = torch.randn(6, 5, 4, 4), torch.randn(6, 5, 4, 4)
    assert float(distillers.relation(teacher, student)) == pytest.approx(-scores.relation(teacher, student), rel=1e-5)
    g_t, g_s = torch.randn(4, 5), torch.randn(4, 5)
    assert float(distillers.semantic(g_t, g_s)) == pytest.approx(-scores.semantic(g_t, g_s), rel=1e-4)


@pytest.mark.parametrize("widths", [(4, 8, 16), (6, 6, 6)])
def test_every_distiller_learns_and_none_at_the_teacher_itself(widths):
    data = some_images(32)
    teacher, student = small_teacher(), CifarResNet(1, 4, (1, 1, 1), widths)
    shown = online_teacher(teacher, places_in(teacher, (1, 8, 8)))
    torch.manual_seed(0)
    step = draw(data, Recipe(batch=16))
    objective = distillation(student, shown, tuple(LOSSES), step)
    losses = objective(step)
    assert losses.keys() == {"labels", *LOSSES} and all(float(loss.detach()) > 0 for loss in losses.values())
    for name, loss in losses.items():
        student.zero_grad()
        loss.backward(retain_graph=True)
        assert float(student.conv1.weight.grad.abs().sum()) > 0, name
    assert all(p.grad is None for p in teacher.parameters())


def test_added_losses_start_at_their_share_of_the_gradient():
    data, student, teacher = some_images(32), CifarResNet(1, 4, (1, 1, 1), (4, 8, 8)), small_teacher()
    places = places_in(teacher, (1, 8, 8))
    step = draw(data, Recipe(batch=16))
    objective = distillation(student, online_teacher(teacher, places), ("kd", "relation"), step, share=0.25)
    losses = objective(step)
    assert float(objective.weights[0]) == pytest.approx(0.9) and float(objective.weights[1]) > 0
    saved = objective.state_dict()["weights"].clone()
    objective(draw(data, Recipe(batch=16)))
    assert objective.weights.equal(saved) and losses["relation"].requires_grad


def test_a_cached_teacher_shows_what_the_teacher_shows():
    data, teacher = some_images(32), small_teacher()
    places, step = places_in(teacher, (1, 8, 8)), draw(data, Recipe(batch=16, shift=0, mirror=True))
    cached, online = cached_teacher(teacher, places, data)(step), online_teacher(teacher, places)(step)
    assert torch.allclose(cached.logits, online.logits, atol=1e-5)
    assert torch.allclose(cached.maps, online.maps, atol=2e-3 * float(online.maps.max()))
    assert [m.shape for m in cached.stage_maps] == [m.shape for m in online.stage_maps]


# what a user can get wrong


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scores": ("nwott",)}, "no score 'nwott'"),
        ({"losses": ("kdd",)}, "no distiller 'kdd'"),
        ({"batch": 2}, "batch is 2"),
        ({"max_macs": -1}, "a bound is negative"),
        ({"evaluations": 0}, "below 1"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(UserError, match=said):
        Config(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_macs": 100, "space": "test_diswot:four"}, "raise the bound"),
        ({"teacher": "nowhere"}, "no classifier at nowhere"),
        ({"teacher": "resnet20-cifar10"}, "does not take images of 1 x 8 x 8"),
        ({"space": "test_diswot:no_maps", "max_macs": 0}, "no feature maps"),
        ({"space": "nothing"}, "no space 'nothing'"),
        ({"scores": ("diswot",)}, "use class_gram"),
        ({"student_map": "layer7", "space": "resnets", "max_macs": 0}, "no module 'layer7'"),
    ],
)
def test_a_run_that_cannot_work_ends_in_one_line(options, said, tmp_path, public_data):
    with pytest.raises(UserError, match=said) as error:
        stillhouse.run("diswot", out=tmp_path / "run", quiet=True, **{**ROWS["diswot"], **options})
    assert "\n" not in str(error.value)


def no_maps(channels: int, classes: int, *, width: Literal[4, 8] = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, width), nn.ReLU(), nn.Linear(width, classes))


def test_a_batch_of_one_class_is_refused(tmp_path):
    images = np.random.default_rng(0).random((40, 8, 8, 3), np.float32)
    np.savez(tmp_path / "one.npz", images=images, labels=np.zeros(40, int))
    with pytest.raises(UserError, match="one class"):
        stillhouse.run(
            "diswot", out=tmp_path / "run", quiet=True, **{**ROWS["diswot"], "data": str(tmp_path / "one.npz")}
        )


def test_colour_images_and_a_finished_teacher_of_ones_own(tmp_path):
    """RGB images of a folder of one's own; the first run's student is the second's teacher, for a latency bound."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = np.clip(rng.random((60, 8, 8, 3)) * 0.5 + labels[:, None, None, None] / 6, 0, 1).astype(np.float32)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    options = {**ROWS["diswot"], "data": str(tmp_path / "own.npz"), "quiet": True, "compare": False}
    first = stillhouse.run("diswot", out=tmp_path / "first", **options)
    options |= {"teacher": str(first.model_folder), "max_macs": 0, "max_latency_ms": 1e4, "shift": 0, "losses": ("kd",)}
    second = stillhouse.run("diswot", out=tmp_path / "second", **options)
    teacher, student = second.result.arm("teacher"), second.result.arm("student")
    assert teacher.metrics == first.result.arm("student").metrics
    assert student.cost.training_seconds > 0 and stillhouse.load(second.folder)(torch.zeros(2, 3, 8, 8)).shape == (2, 3)


def test_search_alone(tmp_path):
    run = stillhouse.run("diswot", out=tmp_path / "run", quiet=True, **{**ROWS["diswot"], "train": False})
    assert [arm.role for arm in run.result.arms] == ["teacher", "student", "floor"]
    assert "front" in run.result.tables[1].title.lower()


# accuracy tables


def test_tables_of_accuracies_are_read(tmp_path):
    cells_file, s1_file, own_file = (tmp_path / name for name in ("cells.csv", "s1.csv", "own.csv"))
    cells_file.write_text(f"arch,cifar10\n{DENSE},93.1\n{CUT},10.0\n")
    found = read_accuracies(cells_file, load_space("cells"), "cifar10")
    assert [accuracy for _, accuracy in found] == [93.1, 10.0]
    assert found[0][0]["edge03"] == "skip_connect" and found[1][0]["edge01"] == "none"
    s1_file.write_text("depths,distilled_top1\n137,70.5\n")
    ((description, _),) = read_accuracies(s1_file, load_space("resnets"), "distilled_top1")
    assert description == {"blocks1": 1, "blocks2": 3, "blocks3": 7, "width": 16}
    own_file.write_text("depth,width,accuracy\n2,8,0.5\n")
    assert read_accuracies(own_file, load_space("test_diswot:four"), "accuracy") == [({"depth": 2, "width": 8}, 0.5)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth,accuracy\n", "has no rows"),
        ("depth,quality\n1,2\n", "has no column 'accuracy'"),
        ("depth,accuracy\n3,2\n", "row 2 of .* has depth='3'"),
        ("depth,accuracy\n1,good\n", r"row 2 of .* has no accuracy \('good'\)"),
        ("colour,accuracy\nred,1\n", "names no option"),
    ],
)
def test_a_table_with_a_fault_names_its_row(text, said, tmp_path):
    file = tmp_path / "table.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=said):
        read_accuracies(file, load_space("test_diswot:four"), "accuracy")
    with pytest.raises(UserError, match="cannot be read as a table"):
        read_accuracies(tmp_path / "none.csv", load_space("test_diswot:four"), "accuracy")


def test_rank_and_scores_from_the_command_line(tmp_path, capsys):
    table = tmp_path / "table.csv"
    rows = [f"{depth},{width},{depth + width / 10}" for depth in (1, 2) for width in (4, 8)]
    table.write_text("\n".join(["depth,width,accuracy", *rows]) + "\n")
    config = Config(**{**ROWS["diswot"], "space": "test_diswot:four", "scores": ("nwot", "parameters")})
    commands.rank(table, "accuracy", config, json=True)
    found = {row["score"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["parameters"]["tau"] == pytest.approx(2 / 3) and "nwot + parameters" in found
    commands.rank(table, "accuracy", config)
    assert "4 networks of space test_diswot:four" in capsys.readouterr().out
    commands.scores(config, networks=1, names=("nwot",))
    assert "nwot" in capsys.readouterr().out
