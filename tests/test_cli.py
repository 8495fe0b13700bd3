"""The command line: quick to start, one line an error, exit codes."""

import json
import subprocess
import sys
import time

import pytest

from stillhouse.cli import main


def stillhouse(*args, **more):
    return subprocess.run([sys.executable, "-m", "stillhouse", *map(str, args)], capture_output=True, text=True, **more)


def here(args, monkeypatch, capsys):
    """Exit code, output and errors of the command, in this process (imports are what a subprocess waits for)."""
    monkeypatch.setattr(sys, "argv", ["stillhouse", *args])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    out, errors = capsys.readouterr()
    return code, out, errors


@pytest.mark.parametrize("args", [["--help"], ["list"], ["run"], ["run", "--help"]])
def test_starts_without_torch(args):
    code = (
        f"import sys; sys.argv = ['stillhouse', *{args!r}]\n"
        "from stillhouse.cli import main\n"
        "try:\n    main()\nfinally:\n    assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "AssertionError" not in done.stderr
    assert "dmd2" in done.stdout or "run" in done.stdout


@pytest.mark.parametrize("args", [["--help"], ["list"]])
def test_answers_in_half_a_second(args):
    times = []
    for _ in range(3):
        started = time.perf_counter()
        assert stillhouse(*args).returncode == 0
        times.append(time.perf_counter() - started)
    assert min(times) < 0.5


def test_list_names_fourteen_methods():
    listed = json.loads(stillhouse("list", "--as", "json").stdout)
    assert len(listed) == 14
    assert all("arXiv" in entry["paper"] for entry in listed.values())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["rnu"], "did you mean 'run'"),
        (["run"], "no method named"),
        (["run", "dmd3"], "did you mean 'dmd2'"),
        (["resume", "nowhere"], "is not a run folder"),
        (["run", "dmd2", "--preset", "huge"], "has no preset 'huge'"),
        (["run", "dmd2", "--data", "./no-such-folder", "--quiet"], "no-such-folder"),
        (["run", "dmd2", "--teacher", "./no-unet", "--quiet"], "no teacher folder no-unet"),
        (["run", "dmd2", "--student-updates", "0", "--quiet"], "--student-updates 1 or more"),
        (["claims", "--results", "nowhere"], "no folder nowhere"),
        (["dmd2", "sample", "nowhere"], "nowhere"),
    ],
)
def test_errors_are_one_line_and_code_2(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, errors = here(args, monkeypatch, capsys)
    last = errors.strip().splitlines()[-1]
    assert code == 2
    assert words in last
    assert last.startswith("stillhouse: ")
    assert "Traceback" not in errors


def test_debug_shows_the_traceback(tmp_path):
    done = stillhouse("resume", "nowhere", "--debug", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_wrong_option_is_code_2(monkeypatch, capsys):
    code, _, errors = here(["run", "dmd2", "--studnet-updates", "5"], monkeypatch, capsys)
    assert code == 2
    assert "student-updates" in errors


def test_dry_run_says_config_and_cost_and_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = here(["run", "dmd2", "--dry-run", "--student-updates", "7"], monkeypatch, capsys)
    assert code == 0
    assert "student_updates = 7" in out
    assert "network passes" in out
    assert "checkpoint" in out
    assert not list(tmp_path.iterdir())


def test_option_help_comes_from_the_config(monkeypatch, capsys):
    code, out, _ = here(["run", "dmd2", "--help"], monkeypatch, capsys)
    assert code == 0
    assert "two time-scale rule" in " ".join(out.replace("│", " ").split())
