"""The command line: quick to start, one line an error, exit codes."""

import json
import os
import subprocess
import sys

import pytest

from stillhouse import completion
from stillhouse import doctor as diagnosis
from stillhouse.catalog import CATALOG
from stillhouse.cli import COMMANDS, Launch, main


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
    """Processor seconds, which a busy machine does not stretch; benchmarks/product.py measures the wait."""
    times = []
    for _ in range(3):
        before = os.times()
        assert stillhouse(*args).returncode == 0
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert 0 < min(times) < 0.5


def test_list_names_every_method():
    listed = json.loads(stillhouse("list", "--as", "json").stdout)
    assert listed.keys() == CATALOG.keys() and len(listed) >= 14
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


def test_json_of_the_list_is_the_same_by_both_names():
    assert stillhouse("list", "--json").stdout == stillhouse("list", "--as", "json").stdout


def test_colours_only_on_a_terminal_that_wants_them():
    code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'stillhouse', 'resume', '--help']) >> 8)"

    def on_a_terminal(**more):
        environment = {**os.environ, "TERM": "xterm", **more}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True).stdout

    assert b"\x1b[" in on_a_terminal()
    assert b"\x1b[" not in on_a_terminal(NO_COLOR="1")
    assert "\x1b[" not in stillhouse("resume", "--help").stdout


def test_doctor_is_well(monkeypatch, capsys):
    code, out, _ = here(["doctor", "--json"], monkeypatch, capsys)
    told = json.loads(out)
    assert code == 0 and told["findings"] == []
    assert told["versions"]["torch"].startswith("2.13") and told["extras"]["tables"] == []
    assert "dev" not in told["extras"] and told["disk"]["runs"] > 0


def test_doctor_names_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(
        diagnosis, "installed", lambda name: None if name == "fairlearn" else "999" if name == "rdkit" else "2.13"
    )
    report = diagnosis.examine()
    assert report["extras"]["tables"][0] == "fairlearn" and "fairlearn" in report["extras"]["all"]
    text = "\n".join(diagnosis.lines(report))
    assert "lacks fairlearn" in text and "pip install 'stillhouse[tables]'" in text
    assert f"{tmp_path}/nowhere, which is not a folder" in " ".join(f["what"] for f in report["findings"])
    assert any("lacks transformers" in f["what"] and "(found 2.13)" in f["what"] for f in report["findings"])
    code, _, errors = here(["doctor"], monkeypatch, capsys)
    assert code == 2 and errors.startswith("stillhouse: ")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["exp"], "export"),
        (["run", "mir"], "mirage"),
        (["mirage", "sk"], "skew"),
        (["run", "mirage", "--max-b"], "--max-bytes"),
    ],
)
def test_completion_in_bash(typed, offered, monkeypatch, tmp_path):
    monkeypatch.setattr(completion, "CATALOG", {"mirage": None})
    monkeypatch.setattr(completion, "COMMAND_HOMES", {})
    script = tmp_path / "completion"
    script.write_text(completion.completion_script("bash", COMMANDS, Launch))
    words = " ".join(["stillhouse", *typed])
    code = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _tyro_stillhouse; echo ${{COMPREPLY[@]}}"
    told = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert told.stdout.split() == [offered], told.stderr


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
