"""The loop: resuming equals going straight on, signals save, non-finite losses stop, metrics are not doubled."""

import os
import signal

import pytest
import torch

from stillhouse.core.errors import Interrupted, UserError
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.core.training import fit


def new_run(folder, seed=0):
    return Run.create("dmd2", {"seed": seed}, out=folder, quiet=True, checkpoint_seconds=0)


class Walk:
    """A random walk of a parameter under Adam: depends on weights, optimizer and random numbers."""

    def __init__(self):
        self.parameter = torch.nn.Linear(3, 1, bias=False)
        with torch.no_grad():
            self.parameter.weight.fill_(1.0)
        self.optimizer = torch.optim.Adam(self.parameter.parameters(), 0.1)
        self.state = {"parameter": self.parameter, "optimizer": self.optimizer}
        self.steps = []

    def step(self, i):
        self.optimizer.zero_grad()
        loss = self.parameter(torch.randn(4, 3)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.steps.append(i)
        return {"loss": loss.item()}


def test_resume_equals_straight(tmp_path):
    straight, stopped, resumed = Walk(), Walk(), Walk()
    with new_run(tmp_path / "a") as run:
        fit(straight.step, straight.state, 20, run, stage="walk")

    def step_until_killed(i):
        if i == 13:
            raise KeyboardInterrupt
        return stopped.step(i)

    with new_run(tmp_path / "b") as run, pytest.raises(KeyboardInterrupt):
        fit(step_until_killed, stopped.state, 20, run, stage="walk")
    with Run.open(tmp_path / "b", quiet=True) as run:
        fitted = fit(resumed.step, resumed.state, 20, run, stage="walk")
        assert [r["update"] for r in run.records(stage="walk")] == list(range(1, 21))
    assert resumed.steps == list(range(13, 20))
    assert fitted.updates == 20
    assert resumed.parameter.weight.equal(straight.parameter.weight)


def test_seed_and_stage_change_the_numbers(tmp_path):
    ends = []
    for seed, stage in ((0, "walk"), (1, "walk"), (0, "run")):
        walk = Walk()
        with new_run(tmp_path / f"{seed}{stage}", seed) as run:
            fit(walk.step, walk.state, 3, run, stage=stage)
        ends.append(walk.parameter.weight)
    assert not ends[0].equal(ends[1])
    assert not ends[0].equal(ends[2])
    assert derive_seed("ab", "c") != derive_seed("a", "bc")


def test_first_evaluation_and_cut_lines_survive_a_resume(tmp_path):
    walk, again = Walk(), Walk()

    def evaluate(update, seconds):
        run.record(stage="walk", update=update, evaluation=update)

    def killed(i):
        if i == 3:
            raise KeyboardInterrupt
        return walk.step(i)

    marks = {"evaluate": evaluate, "evaluate_at": frozenset({0, 2, 6})}
    with new_run(tmp_path / "a") as run, pytest.raises(KeyboardInterrupt):
        fit(killed, walk.state, 6, run, stage="walk", **marks)
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "walk", "upd')
    with Run.open(tmp_path / "a", quiet=True) as run:
        fit(again.step, again.state, 6, run, stage="walk", **marks)
        records = run.records(stage="walk")
    assert [r["update"] for r in records if "evaluation" in r] == [0, 2, 6]
    assert [r["update"] for r in records if "loss" in r] == [1, 2, 3, 4, 5, 6]


def test_finished_stage_is_restored_without_a_step(tmp_path):
    walk, again = Walk(), Walk()
    with new_run(tmp_path / "a") as run:
        first = fit(walk.step, walk.state, 5, run, stage="walk")
        second = fit(again.step, again.state, 5, run, stage="walk")
    assert again.steps == []
    assert again.parameter.weight.equal(walk.parameter.weight)
    assert second == first


def test_evaluation_changes_nothing(tmp_path):
    plain, watched = Walk(), Walk()
    with new_run(tmp_path / "a") as run:
        fit(plain.step, plain.state, 6, run, stage="walk")
    seen = []

    def evaluate(update, seconds):
        torch.randn(7)
        seen.append(update)

    with new_run(tmp_path / "b") as run:
        fit(watched.step, watched.state, 6, run, stage="walk", evaluate=evaluate, evaluate_at=frozenset({0, 2, 6}))
    assert seen == [0, 2, 6]
    assert watched.parameter.weight.equal(plain.parameter.weight)


def test_sigterm_saves_and_says_so(tmp_path):
    walk, resumed, straight = Walk(), Walk(), Walk()

    def step(i):
        if i == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return walk.step(i)

    with Run.create("dmd2", {}, out=tmp_path / "a", quiet=True, checkpoint_seconds=1e9) as run:
        with pytest.raises(Interrupted, match="after update 5"):
            fit(step, walk.state, 9, run, stage="walk")
        fit(resumed.step, resumed.state, 9, run, stage="walk")
    with new_run(tmp_path / "b") as run:
        fit(straight.step, straight.state, 9, run, stage="walk")
    assert resumed.steps == [5, 6, 7, 8]
    assert resumed.parameter.weight.equal(straight.parameter.weight)


def test_non_finite_loss_stops_and_keeps_the_last_good_state(tmp_path):
    walk = Walk()

    def step(i):
        losses = walk.step(i)
        return {"loss": float("nan")} if i == 3 else losses

    with (
        new_run(tmp_path / "a") as run,
        pytest.raises(UserError, match=r"'loss' is nan at update 3.*000000003") as error,
    ):
        fit(step, walk.state, 9, run, stage="walk")
    assert "\n" not in str(error.value)


def test_checkpoint_of_another_state_is_refused(tmp_path):
    walk = Walk()
    with new_run(tmp_path / "a") as run:
        fit(walk.step, walk.state, 2, run, stage="walk")
        with pytest.raises(UserError, match="holds"):
            fit(walk.step, {"parameter": walk.parameter}, 3, run, stage="walk")
        other = torch.nn.Linear(5, 1, bias=False)
        with pytest.raises(UserError, match="does not fit 'parameter'"):
            fit(walk.step, {"parameter": other, "optimizer": walk.optimizer}, 3, run, stage="walk")


def test_damaged_newest_checkpoint_names_itself_and_the_one_before_still_works(tmp_path):
    walk, again = Walk(), Walk()
    with new_run(tmp_path / "a") as run:
        fit(walk.step, walk.state, 4, run, stage="walk")
        newest = sorted((run.checkpoint_folder / "walk").iterdir())[-1]
        newest.write_bytes(newest.read_bytes()[:100])
        with pytest.raises(UserError, match=newest.name):
            fit(again.step, again.state, 4, run, stage="walk")
        newest.unlink()
        fit(again.step, again.state, 4, run, stage="walk")
    assert again.steps == [3]
    assert again.parameter.weight.equal(walk.parameter.weight)


def test_a_checkpoint_whose_states_are_no_table_is_refused(tmp_path):
    from stillhouse.core.checkpoint import save_checkpoint
    from stillhouse.core.training import _restore

    save_checkpoint({"position": {"done": 3, "seconds": 1.0}, "state": 3}, tmp_path / "000003.safetensors")
    with pytest.raises(UserError, match=r"holds \[\], the run needs \['model'\]"):
        _restore({"model": torch.nn.Linear(1, 1)}, tmp_path, None)
