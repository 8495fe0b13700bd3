"""Multi-Student Distillation: partitions, the router, and students that are trained and resumed alone."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import stillhouse
from rows import ROWS
from stillhouse.core.errors import UserError
from stillhouse.core.options import to_plain
from stillhouse.core.run import Run, open_part
from stillhouse.core.seeding import seed_everything
from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.denoiser import Denoiser, load_denoiser
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.preconditioning import Edm
from stillhouse.diffusion.router import ROUTER, RoutedDenoiser, divide, label_embeddings
from stillhouse.diffusion.students import student_sigmas
from stillhouse.diffusion.task import prepare
from stillhouse.methods import dmd2, multi_student
from stops import stopped_and_resumed
from test_diffusion import tiny_unet

TINY = ROWS["multi_student"]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def denoiser(seed, **options):
    seed_everything(seed, "denoiser")
    return (
        Denoiser(tiny_unet(**{"num_class_embeds": 7, **options}), Edm(), torch.tensor(6)).eval().requires_grad_(False)
    )


def run_tiny(folder, **options):
    return stillhouse.run("multi_student", out=folder, quiet=True, **{**TINY, **options})


def new_run(folder, **options):
    """A run folder in which nothing is trained yet."""
    config = dataclasses.replace(multi_student.PRESETS["laptop"], **{**TINY, **options})
    Run.create("multi_student", to_plain(config), out=folder, quiet=True).close()
    return folder


def same_files(one, two):
    left, right = load_file(one), load_file(two)
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)


# ---- partitions


@pytest.mark.parametrize("how", ["consecutive", "kmeans", "random"])
@pytest.mark.parametrize(("labels", "students"), [(10, 4), (10, 1), (7, 7), (12, 3)])
def test_parts_are_disjoint_complete_and_of_equal_size(how, labels, students):
    parts = divide(torch.randn(labels, 5, generator=torch.Generator().manual_seed(0)), students, how, seed=0)
    assert len(parts) == students
    assert sorted(label for part in parts for label in part) == list(range(labels))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_partitions_are_what_they_say():
    places = torch.tensor([0.0, 9.0, 0.1, 9.1, 0.2, 9.2])[:, None]
    assert divide(places, 2, "consecutive", 0) == ((0, 1, 2), (3, 4, 5))
    assert divide(places, 2, "kmeans", 0) == ((0, 2, 4), (1, 3, 5))
    shuffled = [divide(torch.zeros(20, 1), 2, "random", seed) for seed in (0, 0, 1)]
    assert shuffled[0] == shuffled[1] != shuffled[2]
    assert shuffled[0] != divide(torch.zeros(20, 1), 2, "consecutive", 0)


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(UserError, match="3 conditions cannot be divided among 4 students"):
        divide(torch.zeros(3, 1), 4, "consecutive", 0)
    with pytest.raises(UserError, match="no conditions to divide"):
        label_embeddings(denoiser(0), Conditions(("image",), None))


def test_data_is_filtered_to_the_part():
    data = RealImages(torch.arange(12.0).view(12, 1, 1, 1), torch.arange(12) % 4)
    mine = data.of_labels((1, 3))
    assert set(mine.labels.tolist()) == {1, 3}
    assert [int(i) % 4 for i in mine.images.flatten()] == mine.labels.tolist()
    assert len(data.of_labels((0,)).labels) + len(mine.labels) + len(data.of_labels((2,)).labels) == 12


# ---- the router


def test_each_condition_gets_its_students_image_in_one_pass():
    students = [denoiser(seed) for seed in (1, 2, 3)]
    passes = []
    for number, network in enumerate(students):
        network.register_forward_hook(lambda _m, args, _o, number=number: passes.extend([number] * len(args[0])))
    routed = RoutedDenoiser(students, ((0, 4), (1, 5), (2, 3)), None)
    labels = torch.tensor([3, 0, 1, 4, 2, 5])
    x, sigma = torch.randn(6, 1, 8, 8), torch.linspace(1, 6, 6)
    made = routed(x, sigma, labels)
    assert sorted(passes) == [0, 0, 1, 1, 2, 2]
    for row, number in enumerate([2, 0, 1, 0, 2, 1]):
        alone = students[number](x[row : row + 1], sigma[row : row + 1], labels[row : row + 1])
        torch.testing.assert_close(made[row : row + 1], alone, rtol=1e-4, atol=1e-5)
    assert routed.parameter_count == sum(s.parameter_count for s in students)
    assert sum(p.numel() for p in routed.parameters()) == routed.parameter_count


def test_an_unknown_text_goes_where_the_nearest_known_one_goes():
    table = torch.tensor([0.0, 1.0, 5.0, 6.0]).view(4, 1, 1).expand(4, 3, 2)
    routed = RoutedDenoiser([denoiser(1), denoiser(2)], ((0, 2), (1, 3)), table)
    asked = torch.tensor([0.0, 1.0, 5.0, 6.0, 0.8, 4.4, 40.0]).view(7, 1, 1).expand(7, 3, 2)
    assert routed.route(asked).tolist() == [0, 1, 0, 1, 1, 0, 1]


# ---- runs


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("multi") / "run")


def test_one_call_draws_from_all_students(straight):
    generator = stillhouse.load(straight.folder)
    images = generator(["nine", "zero", 9, 4], seed=3)
    assert images.shape == (4, 1, 8, 8)
    assert set(generator.denoiser.route(torch.arange(10)).tolist()) == {0, 1}
    students = [load_denoiser(straight.folder / "parts" / str(number) / "model") for number in (0, 1)]
    noise = torch.randn(3, 1, 8, 8)
    labels = torch.tensor([9, 0, 4])
    routed = generator.denoiser(80 * noise, torch.full((3,), 80.0), labels)
    for row, number in enumerate([1, 0, 0]):
        alone = students[number](80 * noise[row : row + 1], torch.full((1,), 80.0), labels[row : row + 1])
        torch.testing.assert_close(routed[row : row + 1], alone, rtol=1e-4, atol=1e-5)
    assert straight.result.arm("student").cost.network_passes == 1


def test_costs_and_curves_are_of_all_students(straight):
    result = straight.result
    student = result.arm("student")
    assert student.cost.updates["student"] == 2 * (TINY["student_updates"] + TINY["adversarial_updates"])
    assert student.cost.parameters == 2 * result.arm("teacher").cost.parameters
    last = result.curves[0].points[-1]
    assert last["student_updates"] == 3
    assert last["network_passes"] == student.cost.training_passes
    assert last["value"] == pytest.approx(student.metrics["fid"], rel=0.01)
    names = [row[1].split(", ") for row in result.tables[0].rows]
    assert names[0] == ["zero", "one", "two", "three", "four"]
    assert names[1] == ["five", "six", "seven", "eight", "nine"]


def test_a_students_batches_hold_nothing_but_its_part(tmp_path, monkeypatch):
    seen = {}
    engine_of = multi_student.matching_engine

    def watched(config, setting, student, data, sigmas, regression):
        engine = engine_of(config, setting, student, data, sigmas, regression)
        draws = [engine.draw() for _ in range(20)]
        labels = {int(x) for draw in draws for x in (*draw.labels, *draw.real_labels)}
        seen[len(seen)] = labels
        return engine

    monkeypatch.setattr(multi_student, "matching_engine", watched)
    run_tiny(tmp_path / "run", adversarial_updates=0)
    assert seen == {0: {0, 1, 2, 3, 4}, 1: {5, 6, 7, 8, 9}}


def test_failed_student_is_resumed_alone(straight, tmp_path, monkeypatch):
    train = multi_student.train_part

    def failing(config, setting, number, part):
        if number == 0:
            raise UserError("loss 'matching' is nan", "lower the learning rate")
        train(config, setting, number, part)

    monkeypatch.setattr(multi_student, "train_part", failing)
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"not all students are done \(0\).*nan.*stillhouse resume"):
        run_tiny(folder)
    assert not (folder / "model").exists()
    monkeypatch.undo()
    kept = (folder / "parts" / "1" / "model" / WEIGHTS).stat().st_mtime_ns
    stillhouse.resume(folder, quiet=True)
    assert (folder / "parts" / "1" / "model" / WEIGHTS).stat().st_mtime_ns == kept
    for number in (0, 1):
        name = f"student-{number}/{WEIGHTS}"
        assert same_files(folder / "model" / name, straight.model_folder / name)


def test_students_of_two_processes_make_the_run_of_one(straight, tmp_path, monkeypatch):
    """A student that another process holds is passed over; trained by its own command, it is the same student."""
    folder = new_run(tmp_path / "run")
    with open_part(folder, "1", quiet=True), pytest.raises(UserError, match=r"\(1\).*another process works on"):
        stillhouse.resume(folder, quiet=True)
    multi_student.student(folder, 1, quiet=True)
    trained = []
    train = multi_student.train_part
    monkeypatch.setattr(
        multi_student, "train_part", lambda c, s, number, p: (trained.append(number), train(c, s, number, p))
    )
    stillhouse.resume(folder, quiet=True)
    assert trained == []
    for number in (0, 1):
        name = f"student-{number}/{WEIGHTS}"
        assert same_files(folder / "model" / name, straight.model_folder / name)


def test_text_students_take_any_caption(tmp_path):
    run = run_tiny(tmp_path / "run", conditions="text", partition="kmeans", guidance_scale=2.0, adversarial_updates=0)
    student = stillhouse.load(run.folder)
    seven, three = student(["a photo of the digit seven"]), student(["a photo of the digit three"])
    assert not seven.equal(three)
    assert student(["seven photo"]).isfinite().all()


def test_smaller_students_learn_the_teachers_score_first(tmp_path):
    run = run_tiny(tmp_path / "run", student_widths=(8, 8), score_matching_updates=2, adversarial_updates=0)
    student, teacher = run.result.arm("student"), run.result.arm("teacher")
    assert student.cost.parameters < 2 * teacher.cost.parameters
    assert student.cost.updates["score_matching"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"students": 11}, "10 conditions cannot be divided among 11"),
        ({"students": 0}, "0 students"),
        ({"adversarial_updates": -1}, "-1 adversarial updates"),
        ({"gan_weight": 0.0}, "adversarial updates with --gan-weight 0"),
        ({"pairs": -1}, "-1 pairs"),
        ({"pairs": 10, "pair_weight": 0.0}, "a pair weight of 0.0"),
    ],
)
def test_bad_options_are_one_line(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run_tiny(tmp_path / "run", **options)


def test_student_command_refuses_what_is_not_there(straight, tmp_path):
    with pytest.raises(UserError, match="no student 2"):
        multi_student.student(straight.folder, 2)
    with pytest.raises(UserError, match="no file"):
        multi_student.student(tmp_path, 0)


@pytest.mark.slow
def test_two_processes_pass_over_a_student_that_another_process_holds(straight, tmp_path):
    """Only the first process of the group can see the lock; both must act on it, or one waits for the other for ever."""
    folder = new_run(tmp_path / "run")
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "stillhouse"]
    words = [sys.executable, *two, "resume", str(folder), "--quiet"]
    with open_part(folder, "0", quiet=True):
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "not all students are done (0)" in done.stderr
    assert (folder / "parts" / "1" / "done.json").exists()
    subprocess.run(words, check=True, timeout=300, capture_output=True)
    assert (folder / "result.json").exists()


# ---- the regression set


def test_pairs_are_of_all_conditions_for_every_student_and_charged_once(straight, tmp_path, monkeypatch):
    seen = []
    engine_of = multi_student.matching_engine

    def watched(config, setting, student, data, sigmas, regression=None):
        seen.append((set(data.labels.tolist()), set(regression.pairs.labels.tolist())))
        return engine_of(config, setting, student, data, sigmas, regression)

    monkeypatch.setattr(multi_student, "matching_engine", watched)
    run = run_tiny(tmp_path / "run", pairs=120, pair_weight=0.5)
    everything = set(range(10))
    assert seen == [({0, 1, 2, 3, 4}, everything), ({5, 6, 7, 8, 9}, everything)]
    making = 120 * (2 * TINY["teacher_steps"] - 1)
    regressing = 2 * TINY["students"] * TINY["student_updates"] * TINY["batch"]
    costs = [each.result.arm("student").cost.training_passes for each in (run, straight)]
    assert costs[0] - costs[1] == making + regressing
    points = run.result.curves[0].points
    assert points[0]["network_passes"] == making
    assert points[-1]["network_passes"] == costs[0]
    records = [json.loads(line) for line in (run.folder / "parts/1/metrics.jsonl").read_text().splitlines()]
    stages = {record["stage"] for record in records if "regression" in record}
    assert stages == {"matching-1"}


# ---- one student


def test_one_student_takes_the_steps_of_dmd2(tmp_path):
    """K = 1: the same engine on the same data, so the same weights from the same random numbers, GAN apart."""
    shared = {**{k: v for k, v in ROWS["dmd2"].items() if k != "gan_weight"}}
    both = []
    for module, options in ((dmd2, {"gan_weight": 0.0}), (multi_student, {"students": 1, "adversarial_updates": 0})):
        config = dataclasses.replace(module.PRESETS["laptop"], **{**shared, **options})
        with Run.create("dmd2", {}, out=tmp_path / module.__name__, quiet=True) as run:
            setting = prepare(config, run)
        if module is dmd2:
            engine = dmd2.build_engine(config, setting)
        else:
            data = setting.real_images().of_labels(multi_student.parts_of(config, setting)[0])
            sigmas = student_sigmas(config, setting.teacher.denoiser)
            engine = multi_student.matching_engine(config, setting, setting.teacher.denoiser, data, sigmas)
        for i in range(4):
            seed_everything(0, "step", i)
            engine.step(i)
        both.append(engine)
    one, two = both
    assert one.ledger.counts == two.ledger.counts
    for left, right in (
        (one.student, two.student),
        (one.fake_score, two.fake_score),
        (one.ema.average, two.ema.average),
    ):
        assert all(a.equal(b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


# ---- damaged folders


@pytest.mark.parametrize(
    ("router", "message"),
    [
        ({"parts": [[0, 1, 2, 3, 4], [5, 6, 7, 8, 99]]}, "does not divide its 10 labels"),
        ({"parts": [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]]}, "does not divide its 10 labels"),
        ({"parts": [[0, 1, 2, 3, 4], [5, 6, 7, 8]]}, "does not divide its 10 labels"),
        ({"parts": [["a"], ["b"]]}, "is not a router"),
        ({"parts": None}, "is not a router"),
        ({"sigmas": ["much"]}, "is not a router"),
    ],
)
def test_a_router_that_does_not_divide_all_labels_is_refused(straight, tmp_path, router, message):
    known = json.loads((straight.model_folder / ROUTER).read_text())
    (tmp_path / ROUTER).write_text(json.dumps({**known, **router}))
    with pytest.raises(UserError, match=message):
        multi_student.load(tmp_path)


def copy_unfinished(run, folder):
    shutil.copytree(run.folder, folder)
    (folder / "result.json").unlink()
    return folder


@pytest.mark.parametrize("lost", ["model", "."])
def test_a_student_that_was_lost_is_trained_again_alone(straight, tmp_path, lost):
    folder = copy_unfinished(straight, tmp_path / "run")
    shutil.rmtree(folder / "parts" / "1" / lost)
    kept = (folder / "parts" / "0" / "done.json").stat().st_mtime_ns
    stillhouse.resume(folder, quiet=True)
    assert (folder / "parts" / "0" / "done.json").stat().st_mtime_ns == kept
    name = f"student-1/{WEIGHTS}"
    assert same_files(folder / "model" / name, straight.model_folder / name)


@pytest.mark.parametrize("lost", ["images/000000000.safetensors", "metrics.jsonl", "done.json"])
def test_a_damaged_part_is_named_with_what_to_do(straight, tmp_path, lost):
    folder = copy_unfinished(straight, tmp_path / "run")
    part = folder / "parts" / "0"
    (part / lost).write_text('{"hours": 2}' if lost == "done.json" else "")
    with pytest.raises(UserError, match=r"parts/0.* remove .*parts/0 and resume"):
        stillhouse.resume(folder, quiet=True)


@pytest.mark.parametrize(("stage", "update"), [("matching-0", 1), ("adversarial-0", 1), ("matching-1", 3)])
def test_stopped_in_any_students_stage_it_resumes_to_equal_bits(straight, tmp_path, monkeypatch, stage, update):
    again = stopped_and_resumed("multi_student", TINY, tmp_path / "run", stage, update, monkeypatch)
    for number in range(TINY["students"]):
        name = f"student-{number}/{WEIGHTS}"
        assert same_files(again.model_folder / name, straight.model_folder / name)
    assert [c.points for c in again.result.curves] == [c.points for c in straight.result.curves]
