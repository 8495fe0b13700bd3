"""What is made once and kept: whole or absent, made by one, and by a stage of a run that leaves no checkpoint behind."""

import multiprocessing
import os

import pytest
import torch
from torch import nn

from stillhouse.core.cache import cached_folder, trained_once
from stillhouse.core.errors import UserError
from stillhouse.core.locks import is_locked, try_lock, try_shared_lock
from stillhouse.core.run import Run
from stillhouse.core.training import fit
from stillhouse.encoders.training import descend, make_optimizer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder_is_made_once_and_whole():
    made = []

    def make(folder):
        made.append(folder)
        (folder / "it").write_text("there")

    folders = {cached_folder("kind", ("a",), make) for _ in range(2)} | {cached_folder("kind", ("b",), make)}
    assert len(folders) == len(made) == 2
    assert all((folder / "it").read_text() == "there" for folder in folders)


def test_a_folder_that_could_not_be_made_is_absent(cache):
    def fails(folder):
        (folder / "half").write_text("")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cached_folder("kind", ("a",), fails)
    assert not [place for place in cache.rglob("*") if place.name == "half"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_is_named(cache):
    cache.mkdir(mode=0o500)
    with pytest.raises(UserError, match="STILLHOUSE_CACHE"):
        cached_folder("kind", ("a",), lambda folder: None)


def train_in(run, seen):
    """A stage of three updates whose outcome is a file."""

    def train():
        seen.append(run.folder.name)
        fit(lambda i: {"loss": 1.0}, {"net": nn.Linear(1, 1)}, 3, run, stage="teacher")
        return lambda folder: (folder / "weights").write_text("3") and None

    return trained_once("teachers", ("a",), run, "teacher", train)


def test_a_network_is_trained_in_the_first_run_that_needs_it(tmp_path):
    seen = []
    with Run.create("dmd2", {}, out=tmp_path / "one", quiet=True) as one:
        folder = train_in(one, seen)
        assert not (one.checkpoint_folder / "teacher").exists(), "the cache has it now"
        assert len(one.records(stage="teacher")) == 3
    with Run.create("dmd2", {}, out=tmp_path / "two", quiet=True) as two:
        assert train_in(two, seen) == folder
        assert "teacher from the cache" in (two.folder / "log.txt").read_text()
    assert seen == ["one"] and (folder / "weights").read_text() == "3"


def test_readers_share_a_lock_that_a_writer_does_not(tmp_path):
    file = tmp_path / "lock"
    file.touch()
    with file.open() as one, file.open() as two:
        assert try_shared_lock(one) and try_shared_lock(two)
        with file.open("a") as writer:
            assert not try_lock(writer)
    with file.open("a") as writer, file.open() as reader:
        assert try_lock(writer) and not try_shared_lock(reader) and is_locked(file)
    assert not is_locked(file)


def _holds(file, held, done):
    with file.open("a") as mine:
        try_lock(mine)
        held.set()
        done.wait(10)


def test_a_lock_holds_against_another_process_and_ends_with_it(tmp_path):
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_holds, args=(tmp_path / "lock", held, done))
    other.start()
    assert held.wait(10) and is_locked(tmp_path / "lock")
    done.set()
    other.join(10)
    assert not is_locked(tmp_path / "lock")


def test_an_update_is_clipped_and_takes_a_group_s_own_rate():
    """Adam's first step is the learning rate, whatever the gradient's size; a factor of 0 moves nothing."""
    network = nn.Linear(2, 1)
    optimizer = make_optimizer(network, 1.0, weight_decay=0.0)
    optimizer.param_groups[1]["factor"] = 0.0  # the bias
    before, bias = network.weight.clone(), network.bias.clone()
    descend(1e4 * network(torch.ones(1, 2)).sum(), network, optimizer, 0.1)
    assert torch.allclose(before - network.weight, torch.full((1, 2), 0.1), atol=1e-5)
    assert torch.equal(network.bias, bias)
    norm = torch.cat([p.grad.flatten() for p in network.parameters()]).norm()
    assert norm == pytest.approx(1.0, abs=1e-4)
