"""The documents are true: their Python runs, their commands are accepted, the tutorial's method passes as a method."""

import functools
import re
import runpy
import shlex
import sys
import types
from pathlib import Path

import pytest

import stillhouse
from rows import TINY_IMAGES
from stillhouse import catalog, cli, launch
from stillhouse.core.errors import UserError
from stillhouse.exporting.export import export
from stillhouse.reporting.shelf import Shelf
from stillhouse.serving.trying import DONE, Bench

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "methods").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    """The Python of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(page: Path) -> list[str]:
    """The indented or fenced `stillhouse ...` lines of a page; a backslash joins lines."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^(?: {4}|\$ )?(stillhouse [^\n]*)$", "\n".join(_code_lines(text)), re.M)
    return [line.split(" #")[0].strip() for line in found]


def _code_lines(text: str) -> list[str]:
    lines, fenced = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line)
    return lines


# --- structure --------------------------------------------------------------------------------------------------


def test_the_architecture_page_says_what_the_code_imports():
    """Sizes may be a little old; rooms and arrows may not."""
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))
    found = drawing["rooms"]()

    def arrows(text: str) -> set[tuple[str, str]]:
        return set(re.findall(r"^\| (\w+) \| \d+ \| [\d,]+ \| (.*) \|$", text, re.M))

    now = arrows(drawing["table"](found))
    assert arrows((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")) == now
    assert {room for room, _ in now} == found.keys(), "a room has no place in the picture"
    assert drawing["picture"](found).count("<rect") == len(found) + 1


# --- commands ---------------------------------------------------------------------------------------------------

EVERY_COMMAND = [(page.relative_to(ROOT), line) for page in PAGES for line in commands(page)]


def test_there_are_commands_to_check():
    assert len(EVERY_COMMAND) > 30


@pytest.fixture
def accepting(monkeypatch):
    """Commands whose words are read as ever, and which then do nothing."""

    def stub(function):
        @functools.wraps(function)
        def accepted(*args, **named):
            raise Accepted

        return accepted

    def accept(*args, **named):
        raise Accepted

    monkeypatch.setattr(cli, "COMMANDS", {name: stub(function) for name, function in cli.COMMANDS.items()})
    monkeypatch.setattr(launch, "start", accept)
    real = catalog.load_method
    stand_ins = {}

    def load_method(name):
        module = real(name)
        if name not in stand_ins:
            stand_in = types.SimpleNamespace(**{key: getattr(module, key) for key in ("Config", "PRESETS", "__name__")})
            stand_in.COMMANDS = {word: stub(function) for word, function in module.COMMANDS.items()}
            stand_in.estimate = accept
            stand_ins[name] = stand_in
        return stand_ins[name]

    monkeypatch.setattr(cli, "load_method", load_method)


class Accepted(Exception):
    """The words fit a command."""


def page_commands():
    return sorted({page for page, _ in EVERY_COMMAND}, key=str)


@pytest.mark.parametrize("page", page_commands(), ids=str)
def test_commands_of_a_page_are_accepted(page, accepting, capsys, monkeypatch):
    monkeypatch.setitem(catalog.CATALOG, "hinton", catalog.CATALOG["dmd2"])
    monkeypatch.setitem(cli.CATALOG, "hinton", catalog.CATALOG["dmd2"])
    refused = []
    for line in (line for where, line in EVERY_COMMAND if where == page):
        words = shlex.split(line.split(" > ")[0].split(" | ")[0])[1:]
        words = ["run", "mirage", "--width", "4"] if words[:2] == ["run", "hinton"] else words
        if words and words[-1] == "...":
            words = words[:-1]
        try:
            cli.dispatch(words)
        except Accepted:
            continue
        except UserError as error:
            name = words[1] if words[0] == "run" else words[0]
            if "is not in this version yet" not in str(error):
                refused.append(f"{line}: {error} ({name})")
        except SystemExit as end:
            if end.code:
                refused.append(f"{line}: {capsys.readouterr().out[-600:]}")
    assert not refused, "\n".join(refused)


# --- Python -----------------------------------------------------------------------------------------------------

SHRUNK = {
    "student_updates=300": ", ".join(
        f"{k}={v!r}" for k, v in {**TINY_IMAGES, "student_updates": 3}.items() if k != "data"
    )
}
"""What makes a page's run tiny; everything else is run as it stands."""


@pytest.mark.parametrize("page", ["README.md", "docs/first_ten_minutes.md"])
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    found = blocks(ROOT / page)
    assert found
    for code in found:
        for there, tiny in SHRUNK.items():
            code = code.replace(there, f"quiet=True, {tiny}")
        exec(compile(code, page, "exec"), names)
    assert names["images"].shape == (2, 1, 8, 8) and abs(names["images"]).max() <= 1


# --- the tutorial -----------------------------------------------------------------------------------------------


@pytest.fixture
def hinton(monkeypatch):
    """The method that docs/write_a_method.md writes, in the catalogue."""
    code = "\n\n".join(blocks(ROOT / "docs" / "write_a_method.md"))
    module = types.ModuleType("stillhouse.methods.hinton")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, "docs/write_a_method.md", "exec"), module.__dict__)
    monkeypatch.setitem(catalog.CATALOG, "hinton", module.ENTRY)
    return module


def test_the_fifteenth_method_works_as_the_tutorial_says(hinton, tmp_path, capsys):
    import torch

    cli.dispatch(["run", "hinton", "--width", "4", "--updates", "60", "--quiet", "--out", str(tmp_path / "a")])
    run = stillhouse.resume(tmp_path / "a", quiet=True)
    assert (
        "Accuracy" in (tmp_path / "a" / "report.html").read_text()
        and "1503.02531" in (tmp_path / "a" / "model" / "README.md").read_text()
    )
    teacher, student = (run.result.arm(role).metrics["accuracy"] for role in ("teacher", "student"))
    assert teacher > student > 0.1
    again = stillhouse.run("hinton", width=4, updates=60, quiet=True, out=tmp_path / "b")
    assert again.result.arm("student").metrics == run.result.arm("student").metrics
    assert stillhouse.load(run.folder)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert {entry.name: entry.method for entry in Shelf(tmp_path).entries()} == {"a": "hinton", "b": "hinton"}
    assert stillhouse.compare(
        tmp_path / "a",
        stillhouse.run("hinton", width=8, updates=60, quiet=True, out=tmp_path / "c").folder,
        out=tmp_path / "c.html",
    ).is_file()
    cli.dispatch(["run", "hinton", "--dry-run"])
    assert "student without a teacher" in capsys.readouterr().out
    with pytest.raises(UserError, match="temperature"):
        stillhouse.run("hinton", temperature=0.0, quiet=True, out=tmp_path / "d")


def test_the_fifteenth_method_is_exported_and_tried(hinton, tmp_path):
    run = stillhouse.run("hinton", width=4, updates=30, quiet=True, out=tmp_path / "a")
    original, copy = export(run.folder, "safetensors").checks
    assert copy.difference == 0 and original.metrics["accuracy"] == pytest.approx(
        run.result.arm("student").metrics["accuracy"]
    )
    bench = Bench()
    _, ready = bench.open(run.folder, "hinton", "classify")
    answers = bench.start(ready, {"number": 3})
    assert "it is" in bench.following(answers).text and bench.following(answers) is DONE


def test_the_equation_of_the_tutorial_by_hand(hinton):
    import torch

    logits, labels = torch.tensor([[0.0, 0.0]]), torch.tensor([0])
    assert float(hinton.distillation_loss(logits, logits, labels, 3.0, 1.0)) == pytest.approx(0.6931, abs=1e-4)
    teacher = torch.tensor([[2.0 * torch.log(torch.tensor(3.0)), 0.0]])  # at T = 2: shares 3/4 and 1/4
    expected = 4 * (0.75 * torch.log(torch.tensor(1.5)) + 0.25 * torch.log(torch.tensor(0.5)))
    assert float(hinton.distillation_loss(logits, teacher, labels, 2.0, 0.0)) == pytest.approx(
        float(expected), abs=1e-5
    )


def test_claims_from_python():
    told = stillhouse.claims()
    assert {"dmd2", "mirage"} <= {claim["method"] for claim in told}
    assert all(claim["verdict"] in ("held", "not separable", "not held") for claim in told)


# --- the site ---------------------------------------------------------------------------------------------------


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("myst_parser", reason="the extra `docs` is not installed")
    import subprocess

    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(ROOT / "docs"),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "knowledge distillation" in (tmp_path / "write_a_method.html").read_text().lower()
    assert all(
        (tmp_path / "methods" / f"{page.stem}.html").is_file() for page in (ROOT / "docs" / "methods").glob("*.md")
    )
