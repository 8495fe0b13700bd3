"""DisBack: the path on disk, the walk back along it, and what it is charged."""

import copy
import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

import stillhouse
from rows import ROWS
from stillhouse.core.errors import UserError
from stillhouse.core.seeding import seed_everything
from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.degradation import (
    Backtracking,
    load_node,
    node_file,
    node_network,
    node_updates,
    save_node,
)
from stillhouse.diffusion.denoiser import Denoiser, load_denoiser, save_denoiser
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.losses import denoising_loss
from stillhouse.diffusion.preconditioning import Edm
from stillhouse.diffusion.recipe import Cadence, Recipe
from stillhouse.diffusion.score_distillation import ConstantTarget, ScoreDistillation
from stillhouse.diffusion.score_matching import matching_step, narrower
from stillhouse.methods import disback
from stops import stopped_and_resumed
from test_diffusion import tiny_unet

TINY = ROWS["disback"]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def new_teacher(seed=0):
    seed_everything(seed, "teacher")
    return Denoiser(tiny_unet(num_class_embeds=4), Edm(), torch.tensor(3)).eval().requires_grad_(False)


def moved(teacher, by):
    """A copy of the teacher whose weights are all moved by about `by`."""
    network = copy.deepcopy(teacher)
    for p in network.parameters():
        p.data += by * torch.randn_like(p)
    return network


@pytest.fixture
def path(tmp_path):
    """A teacher and three recorded nodes."""
    teacher = new_teacher()
    seed_everything(0, "nodes")
    nodes = [moved(teacher, 0.01 * number) for number in (1, 2, 3)]
    for number, node in enumerate(nodes, 1):
        save_node(tmp_path, number, node, teacher)
    return teacher, nodes, tmp_path


def walk(path, switch="fixed", switch_updates=2, most_updates=1000):
    teacher, nodes, folder = path
    return Backtracking(teacher, folder, len(nodes), switch, switch_updates, most_updates)


def same_weights(one, two):
    return all(a.equal(b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


# ---- nodes on disk


def test_node_comes_back_and_node_zero_is_the_teacher_bit_for_bit(path):
    teacher, nodes, folder = path
    for number, node in enumerate(nodes, 1):
        read = node_network(folder, number, teacher)
        for a, b in zip(read.parameters(), node.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    assert same_weights(node_network(folder, 0, teacher), teacher)


def test_nodes_are_evenly_spaced_and_end_at_the_end():
    assert node_updates(100, 4) == (25, 50, 75, 100)
    assert len(set(node_updates(7, 7))) == 7


def test_a_node_that_is_not_exactly_right_is_refused(path):
    teacher, _, folder = path
    with pytest.raises(UserError, match="not node 1 of this teacher"):
        load_node(folder, 1, new_teacher(seed=1))
    node_file(folder, 1).rename(folder / "kept")
    with pytest.raises(UserError, match="cannot be read"):
        load_node(folder, 1, teacher)
    whole = (folder / "kept").read_bytes()
    node_file(folder, 1).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        load_node(folder, 1, teacher)
    node_file(folder, 1).write_bytes(node_file(folder, 2).read_bytes())
    with pytest.raises(UserError, match="not node 1"):
        load_node(folder, 1, teacher)


def test_renamed_weights_are_refused_not_ignored(path):
    """The fault of the released code: a state dict whose names match nothing is loaded as if it were fine."""
    from safetensors import safe_open

    teacher, _, folder = path
    file = node_file(folder, 2)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    save_file({f"fake_unet.{k}": v for k, v in load_file(file).items()}, file, metadata)
    with pytest.raises(UserError, match="not those of the teacher's network"):
        load_node(folder, 2, teacher)


def test_a_bad_node_stops_the_walk_before_it_begins(path):
    """Not after hours, when the walk arrives there."""
    folder = path[2]
    node_file(folder, 1).write_bytes(b"")
    with pytest.raises(UserError, match=r"node-001.* cannot be read"):
        walk(path)


def test_a_node_that_is_not_finite_is_refused(path):
    teacher, nodes, folder = path
    next(nodes[1].parameters()).data.fill_(float("nan"))
    save_node(folder, 2, nodes[1], teacher)
    with pytest.raises(UserError, match="not finite"):
        load_node(folder, 2, teacher)


# ---- the walk


def test_walk_visits_every_node_and_ends_on_the_teacher(path):
    """N = 3: the first target is node 2; two updates each; then the teacher itself, for good."""
    teacher = path[0]
    target = walk(path)
    seen = []
    for _ in range(8):
        seen.append(target.position)
        target.after_student_update(1.0)
    assert seen == [2, 2, 1, 1, 0, 0, 0, 0]
    assert target.target is teacher
    assert [visit[:2] for visit in target.visits] == [(2, 2), (1, 2)]


def test_targets_scores_are_the_nodes_scores(path):
    teacher, nodes, _ = path
    target = walk(path, switch_updates=1)
    x, sigma, c = torch.randn(2, 1, 8, 8), torch.tensor([1.0, 20.0]), torch.tensor([0, 1])
    torch.testing.assert_close(target.denoise(x, sigma, c, 1.0), nodes[1](x, sigma, c), rtol=1e-4, atol=1e-5)
    assert not target.denoise(x, sigma, c, 1.0).equal(teacher(x, sigma, c))
    target.after_student_update(1.0)
    torch.testing.assert_close(target.denoise(x, sigma, c, 1.0), nodes[0](x, sigma, c), rtol=1e-4, atol=1e-5)
    target.after_student_update(1.0)
    assert target.denoise(x, sigma, c, 1.0).equal(teacher(x, sigma, c))


def test_adaptive_walk_stays_while_the_gap_falls_and_goes_on_when_it_does_not(path):
    target = walk(path, "adaptive", switch_updates=4)
    for gap in (1.0, 0.8, 0.6, 0.5, 0.4, 0.3):
        target.after_student_update(gap)
        assert target.position == 2
    for gap in (0.3, 0.3, 0.3):
        target.after_student_update(gap)
    assert target.position == 1
    assert target.visits[0][2:] == (1.0, target.visits[0][3])


def test_adaptive_walk_ends_even_if_the_gap_always_falls(path):
    target = walk(path, "adaptive", switch_updates=4, most_updates=10)
    gap = 1.0
    for _ in range(20):
        target.after_student_update(gap)
        gap *= 0.5
    assert target.position == 0


def test_no_gradient_reaches_a_node_or_the_teacher(path):
    """Even if the teacher's weights asked for one."""
    teacher, nodes, _ = path
    teacher.requires_grad_(True)
    target = walk(path, switch_updates=1)
    conditions, data = Conditions(("a", "b", "c"), torch.arange(3)), RealImages(None, torch.arange(12) % 3)
    student, fake = (copy.deepcopy(nodes[2]).requires_grad_(True) for _ in range(2))
    engine = ScoreDistillation(student, target, fake, conditions, data, Recipe(batch=4, cadence=Cadence(1, 1)))
    before, moved = copy.deepcopy(teacher), copy.deepcopy(student)
    for i in range(4):
        seed_everything(0, "steps", i)
        engine.step(i)
        assert all(p.grad is None for network in (teacher, target.node) for p in network.parameters())
    assert target.position == 0
    assert same_weights(teacher, before)
    assert not same_weights(student, moved)


def test_position_survives_a_kill(path):
    target, again = walk(path, switch_updates=3), walk(path, switch_updates=3)
    for _ in range(4):
        target.after_student_update(0.5)
    again.load_state_dict(target.state_dict())
    assert (again.position, again.gaps, again.visits) == (1, [0.5], [(2, 3, 0.5, 0.5)])
    assert same_weights(again.target, target.target)
    target.after_student_update(0.4), again.after_student_update(0.4)
    assert again.state_dict() == target.state_dict()


# ---- recording


def test_recording_learns_the_frozen_students_samples_and_touches_nothing_else():
    teacher = new_teacher()
    student, degraded = copy.deepcopy(teacher), copy.deepcopy(teacher).requires_grad_(True)
    conditions = Conditions(("a", "b", "c"), torch.arange(3))
    data = RealImages(None, torch.arange(12) % 3)
    engine = ScoreDistillation(
        student, ConstantTarget(teacher), degraded, conditions, data, Recipe(batch=16, fake_lr=2e-3)
    )
    noise = torch.randn(32, 1, 8, 8)
    labels = torch.arange(32) % 3
    made = student(80.0 * noise, torch.full((32,), 80.0), labels)

    def loss(network):
        sigma = torch.full((32,), 1.0)
        with torch.no_grad():
            return float(denoising_loss(network(made + noise, sigma, labels), made, torch.ones(32)))

    before, losses = loss(degraded), []
    for i in range(40):
        seed_everything(0, "recording", i)
        losses.append(engine.step(i))
    assert loss(degraded) < 0.9 * before
    assert same_weights(student, new_teacher())
    assert same_weights(teacher, new_teacher())
    assert engine.ledger["student_updates"] == 0
    assert engine.ledger["fake_score_updates"] == 40
    assert all(p.grad is None for network in (teacher, student) for p in network.parameters())


# ---- runs


def test_base_alone_is_dmd2_bit_for_bit(tmp_path):
    shared = {**ROWS["dmd2"], "gan_weight": 0.1}
    one = stillhouse.run("dmd2", out=tmp_path / "dmd2", quiet=True, **shared)
    two = stillhouse.run("disback", out=tmp_path / "disback", quiet=True, base="dmd2", path="none", **shared)
    left, right = load_file(one.model_folder / WEIGHTS), load_file(two.model_folder / WEIGHTS)
    assert all(left[name].equal(right[name]) for name in left)
    assert one.result.arm("student").cost.training_passes == two.result.arm("student").cost.training_passes


def test_recording_is_charged_to_the_arm_and_the_curve(tmp_path):
    base = stillhouse.run("disback", out=tmp_path / "base", quiet=True, **{**TINY, "path": "none"})
    walked = stillhouse.run("disback", out=tmp_path / "walked", quiet=True, **TINY)
    recording = TINY["recording_updates"] * 3 * TINY["batch"]
    costs = [run.result.arm("student").cost for run in (base, walked)]
    assert costs[1].training_passes - costs[0].training_passes == recording
    assert costs[1].updates["recording"] == TINY["recording_updates"]
    assert walked.result.curves[0].points[0]["network_passes"] == recording
    assert base.result.curves[0].points[0]["network_passes"] == 0
    table = walked.result.tables[0]
    assert [row[0] for row in table.rows] == [1, 0]


def test_warm_fake_starts_the_critic_from_the_last_node_and_keeps_the_teacher(tmp_path, monkeypatch):
    engines = []
    build = disback.build_engine

    def seen(*args):
        engines.append(build(*args))
        start.append(copy.deepcopy(engines[0].fake_score))
        return engines[0]

    start = []
    monkeypatch.setattr(disback, "build_engine", seen)
    run = stillhouse.run("disback", out=tmp_path / "run", quiet=True, **{**TINY, "path": "warm-fake"})
    assert isinstance(engines[0].target, ConstantTarget)
    teacher = engines[0].target.teacher
    last = node_network(run.folder / "nodes", TINY["nodes"], teacher)
    assert same_weights(start[0], last)
    assert not same_weights(start[0], teacher)
    assert run.result.tables == ()


def test_narrower_student_learns_the_teachers_score_first(tmp_path):
    options = {**TINY, "student_widths": (8, 8), "score_matching_updates": 3}
    run = stillhouse.run("disback", out=tmp_path / "run", quiet=True, **options)
    teacher, student = run.result.arm("teacher").cost, run.result.arm("student").cost
    assert student.parameters < teacher.parameters
    assert student.updates["score_matching"] == 3
    assert stillhouse.load(run.folder)(["seven"]).isfinite().all()


def test_score_matching_of_equal_networks_is_zero_and_none_reaches_the_teacher():
    teacher = new_teacher().requires_grad_(True)
    twin = copy.deepcopy(teacher)
    x, noise, sigma, c = (
        torch.randn(4, 1, 8, 8),
        torch.randn(4, 1, 8, 8),
        torch.full((4,), 2.0),
        torch.tensor([0, 1, 2, 0]),
    )
    assert matching_step(twin, teacher, x, sigma, noise, c).item() == 0.0
    other = narrower(teacher, (8, 16), seed=1).requires_grad_(True)
    matching_step(other, teacher, x, sigma, noise, c).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in other.parameters())
    assert other.sample_shape == teacher.sample_shape


def test_narrower_unconditional_student_stays_unconditional(tmp_path):
    teacher = Denoiser(tiny_unet(), Edm()).eval()
    student = narrower(teacher, (8, 8), seed=0).eval()
    x, sigma = torch.randn(2, 1, 8, 8), torch.ones(2)
    save_denoiser(student, tmp_path / "saved")
    torch.testing.assert_close(load_denoiser(tmp_path / "saved")(x, sigma), student(x, sigma))
    assert student.config.num_class_embeds is None
    assert student.parameter_count < teacher.parameter_count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 0}, "a path of 0 nodes"),
        ({"nodes": 5, "recording_updates": 4}, "5 nodes in 4 recording updates"),
        ({"switch_updates": 0}, "0 updates a node"),
        ({"nodes": 3, "switch_updates": 2}, "do not finish"),
        ({"student_widths": (7,)}, "multiples of 8"),
        ({"student_widths": (8, 8, 8, 8, 8)}, "give fewer widths"),
    ],
)
def test_bad_options_are_one_line(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        stillhouse.run("disback", out=tmp_path / "run", quiet=True, **{**TINY, **options})


def test_presets_can_be_estimated_only_from_valid_numbers():
    for preset in disback.PRESETS.values():
        disback.check(preset)
    with pytest.raises(UserError):
        disback.check(dataclasses.replace(disback.PRESETS["laptop"], updates_ratio=0))


@pytest.mark.parametrize(("stage", "update"), [("score-matching", 1), ("recording", 3), ("student", 5)])
def test_stopped_in_any_stage_it_resumes_to_equal_bits(tmp_path, monkeypatch, stage, update):
    """The walk's position included: the student's stop falls between two nodes."""
    options = {**TINY, "student_widths": (8, 8), "score_matching_updates": 2, "switch": "adaptive"}
    straight = stillhouse.run("disback", out=tmp_path / "straight", quiet=True, **options)
    again = stopped_and_resumed("disback", options, tmp_path / "again", stage, update, monkeypatch)
    left, right = load_file(straight.model_folder / WEIGHTS), load_file(again.model_folder / WEIGHTS)
    assert all(left[name].equal(right[name]) for name in left)
    assert again.result.tables == straight.result.tables
    assert [c.points for c in again.result.curves] == [c.points for c in straight.result.curves]
