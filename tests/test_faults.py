"""A handful of faults on one method, in real processes; benchmarks/faults.py has two hundred over all of them."""

import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import faulty
from faulty import Ended, Order, Places
from own_files import own_files
from rows import ROWS
from stillhouse.core.checkpoint import nan_in
from stillhouse.core.errors import UserError
from stillhouse.core.files import TEMPORARY, clear_temporaries, make_folder_atomically, write_atomically
from stillhouse.core.run import Run
from stillhouse.core.training import fit

METHOD = "similar_tasks"


@pytest.fixture(scope="module")
def context():
    """A server that has imported the method, forks a child for each fault, and has never trained anything itself."""
    path = os.environ["PYTHONPATH"]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), path])
    made = multiprocessing.get_context("forkserver")
    imported = (
        "stillhouse.cli",
        "stillhouse.launch",
        "stillhouse.reporting.report",
        "stillhouse.reporting.model_card",
        "torch._dynamo",
    )
    made.set_forkserver_preload(["faulty", f"stillhouse.methods.{METHOD}", *imported])
    yield made
    os.environ["PYTHONPATH"] = path


@pytest.fixture(scope="module")
def straight(context, tmp_path_factory):
    """A run without faults; its data, cache and outcome are what the others are held against."""
    places = Places(tmp_path_factory.mktemp("straight"), METHOD, {}).make()
    places = replace(places, options=ROWS[METHOD] | own_files(METHOD, places.data))
    ended = faulty.carried_out(context, places, Order(""))
    assert ended.code == 0, ended.said
    return places, faulty.fingerprint(places.run), ended.writes


@pytest.fixture
def places(straight, tmp_path):
    there, _, _ = straight
    shutil.copytree(there.data, tmp_path / "p" / "data")
    shutil.copytree(there.cache, tmp_path / "p" / "cache")
    options = {n: v.replace(str(there.data), str(tmp_path / "p" / "data")) if isinstance(v, str) else v for n, v in there.options.items()}  # fmt: skip
    return Places(tmp_path / "p", METHOD, options).make()


def require_told(ended: Ended, *words: str) -> None:
    assert ended.code == 2 and len(ended.said) == 1, ended
    assert ended.said[0].startswith("stillhouse: ") and all(word in ended.said[0] for word in words), ended.said


def test_a_run_survives_what_can_happen_to_it_and_ends_as_the_straight_one(context, straight, places):
    _, outcome, _ = straight

    def met(order: Order) -> Ended:
        before = faulty.artifacts(places)
        ended = faulty.carried_out(context, places, order)
        faulty.mended(places, order)
        assert ended.struck, order
        assert not faulty.broken(places) and not faulty.lost(before, faulty.artifacts(places)), order
        return ended

    assert met(Order("kill -9", write=3)).code == -9, "in the middle of making the run folder"
    assert met(Order("kill -9", write=30)).code == -9
    require_told(met(Order("file too large", write=8)), "cannot write", "File too large")
    require_told(met(Order("non-finite gradient", step=1)), "is nan after update", "last good state")
    require_told(met(Order("vanishing source", read=5)), "data")
    newest = max(places.run.rglob("checkpoint/*/*.safetensors"), key=lambda file: (file.parent.name, file.name))
    newest.write_bytes(newest.read_bytes()[:-7])
    require_told(faulty.carried_out(context, places, Order("none")), "is damaged", newest.name)
    newest.unlink()
    assert faulty.carried_out(context, places, Order("")).code == 0
    assert faulty.fingerprint(places.run) == outcome
    assert not faulty.leftovers(places)


def test_two_processes_do_not_share_a_run(context, places):
    first, second = faulty.beside(context, places, 0.05)
    require_told(second, "another process works on")
    assert first.code == -9 and not first.said


# ---- what the faults found, in small ----


def test_a_run_folder_that_a_kill_left_half_made_is_taken_over(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / f".config.json.123{TEMPORARY}").write_text("{")
    (folder / "environment.json").write_text("{}")
    with Run.create("dmd2", {"seed": 1}, out=folder, quiet=True):
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "config.json", "environment.json"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".hidden").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        Run.create("dmd2", {}, out=tmp_path / "other")


def test_leftovers_go_when_the_run_is_opened_but_not_those_of_parts(tmp_path):
    Run.create("dmd2", {}, out=tmp_path / "r", quiet=True).close()
    places = [tmp_path / "r" / "checkpoint" / "s", tmp_path / "r" / "parts" / "a"]
    for place in places:
        place.mkdir(parents=True)
        (place / f".x.1{TEMPORARY}").write_text("")
        (place / f".m.1{TEMPORARY}").with_suffix(f".folder{TEMPORARY}").mkdir()
    Run.open(tmp_path / "r", quiet=True).close()
    assert not list(places[0].iterdir()) and len(list(places[1].iterdir())) == 2


def test_a_folder_between_its_two_renames_is_found_again(tmp_path):
    make_folder_atomically(tmp_path / "model", lambda place: (place / "a").write_text("old"))
    (tmp_path / "model").rename(tmp_path / ".model.old")
    with pytest.raises(RuntimeError):
        make_folder_atomically(tmp_path / "model", lambda place: (_ for _ in ()).throw(RuntimeError))
    assert (tmp_path / "model" / "a").read_text() == "old"
    clear_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_that_cannot_be_removed_either_is_no_second_error(tmp_path, monkeypatch):
    def refused(self, *_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(UserError, match="Permission denied"):
        write_atomically(tmp_path / "a", "x")


def test_weights_that_are_no_numbers_are_never_the_newest_checkpoint(tmp_path):
    network = torch.nn.Linear(2, 1)

    def step(i):
        if i == 3:
            with torch.no_grad():
                network.weight[0, 0] = np.nan
        return {"loss": 1.0}

    with Run.create("dmd2", {}, out=tmp_path / "r", quiet=True, checkpoint_seconds=0) as run:
        with pytest.raises(UserError, match=r"network/weight is nan after update 4 of stage 's'.*000000003") as error:
            fit(step, {"network": network}, 6, run, stage="s")
        assert "\n" not in str(error.value)
        assert sorted(path.stem for path in (run.checkpoint_folder / "s").iterdir()) == ["000000002", "000000003"]
    state = {"a": [torch.ones(2), {"b": torch.tensor([1.0, float("nan")])}], "inf": torch.tensor(float("inf")), "n": 3}
    assert nan_in(state) == "a/1/b" and nan_in({"inf": state["inf"], "whole": torch.tensor(1)}) is None
