"""The run folder: made whole, locked, and refused in one line where it cannot be."""

import json
import os

import pytest

from stillhouse.core.errors import UserError
from stillhouse.core.files import make_folder_atomically, write_atomically
from stillhouse.core.run import Run


def test_folder_is_made_and_locked(tmp_path):
    with Run.create("dmd2", {"seed": 3}, out=tmp_path / "r", quiet=True) as run:
        assert run.seed == 3
        with pytest.raises(UserError, match="another process"):
            Run.open(tmp_path / "r")
    with Run.open(tmp_path / "r", quiet=True) as again:
        assert again.method == "dmd2"
        assert json.loads((again.folder / "environment.json").read_text())["versions"]["torch"]


def test_existing_run_is_not_overwritten(tmp_path):
    Run.create("dmd2", {}, out=tmp_path / "r", quiet=True).close()
    with pytest.raises(UserError, match="stillhouse resume"):
        Run.create("dmd2", {}, out=tmp_path / "r")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.png").write_bytes(b"x")
    with pytest.raises(UserError, match="not an empty folder"):
        Run.create("dmd2", {}, out=tmp_path / "full")
    assert (tmp_path / "full" / "photo.png").read_bytes() == b"x"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"method": "dmd2"}'])
def test_not_a_run_folder(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        Run.open(tmp_path)


def test_unfinished_run_has_no_result(tmp_path):
    with Run.create("dmd2", {}, out=tmp_path / "r", quiet=True) as run, pytest.raises(UserError, match="no result yet"):
        _ = run.result


def test_metrics_survive_a_line_cut_short(tmp_path):
    with Run.create("dmd2", {}, out=tmp_path / "r", quiet=True) as run:
        run.record(stage="a", update=1, loss=0.5)
        run.record(stage="b", update=1, loss=0.25)
        with run.metrics_file.open("a") as file:
            file.write('{"stage": "a", "upd')
        assert run.records(stage="a") == [{"stage": "a", "update": 1, "loss": 0.5}]


def test_atomic_write_leaves_no_temporary_and_replaces(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_failed_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "model"
    make_folder_atomically(folder, lambda place: (place / "a").write_text("old"))

    def fail(place):
        (place / "a").write_text("new")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        make_folder_atomically(folder, fail)
    assert (folder / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_unwritable_place_is_one_line(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot write") as error:
        Run.create("dmd2", {}, out=blocker / "run")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file system that can be mounted read-only")
def test_full_disk_is_one_line(tmp_path):
    """A 64 kB file system fills; the error is one line and what was there stays."""
    import subprocess

    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("this machine does not let tests mount a tmpfs")
    try:
        write_atomically(place / "good", b"x" * 1000)
        with pytest.raises(UserError, match="No space left"):
            write_atomically(place / "good", b"y" * 200_000)
        assert (place / "good").read_bytes() == b"x" * 1000
    finally:
        subprocess.run(["umount", str(place)], check=True)
