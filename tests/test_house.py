"""The habits of the house that can be counted: short functions and modules, documented ones, errors that are said."""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "stillhouse"
FILES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(SOURCE.rglob("*.py"))}
MOST_LINES, MEDIAN_LINES = 450, 12
KNOWN = ("forward", "state_dict", "load_state_dict")
"""Methods whose meaning is that of torch."""
COMMANDS = ("cli.py", "commands.py", "fair_tables/__init__.py", "multi_student.py", "serving/app.py")
"""Where docstrings are the help of commands, which has no list of errors, and pages, which show them."""
NOT_YET: tuple[str, ...] = ()
"""Where this does not hold everywhere so far: a place goes from here when it does, and none comes in."""


class Function(NamedTuple):
    place: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    outer: str
    """Name of the class it is in, "" for none."""
    public: bool

    @property
    def lines(self) -> int:
        return (self.node.end_lineno or 0) - self.node.lineno + 1

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""


def functions(file: Path) -> Iterator[Function]:
    """Functions and methods of a file, those inside others left out."""

    def visit(node: ast.AST, outer: str, public: bool) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from visit(child, child.name, public and not child.name.startswith("_"))
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                place = f"{file.relative_to(SOURCE)}:{child.lineno} {outer}{'.' * bool(outer)}{child.name}"
                yield Function(place, child, outer, public and not child.name.startswith("_"))
            else:
                yield from visit(child, outer, public)

    return visit(FILES[file], "", True)


def within(file: Path, places: tuple[str, ...]) -> bool:
    return any(place in str(file.relative_to(SOURCE)) for place in places)


def is_only_declared(function: Function) -> bool:
    """Whether it is a line of a protocol, `...`, whose class says what it is."""
    last = function.node.body[-1]
    return isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant) and last.value.value is Ellipsis


def raises(node: ast.AST) -> bool:
    """Whether it refuses something by itself; what it calls may refuse too, and what is defined inside is another's."""
    return any(
        _refuses(child, node) or raises(child)
        for child in ast.iter_child_nodes(node)
        if not isinstance(child, ast.FunctionDef | ast.Lambda)
    )


def _refuses(node: ast.AST, around: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    return node.func.id == "require" or (isinstance(around, ast.Raise) and node.func.id in ("UserError", "ValueError"))


def test_functions_are_short():
    every = [function.lines for file in FILES for function in functions(file)]
    assert len(every) > 3000
    assert statistics.median(every) < MEDIAN_LINES
    assert sorted(every)[int(0.9 * len(every))] <= 2 * MEDIAN_LINES


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_module_is_short_and_says_what_it_is(file):
    doc = ast.get_docstring(FILES[file]) or ""
    assert doc or file.name == "__main__.py", "no docstring"
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES or re.search(r"\b(long|one file)\b", doc), (
        f"{lines} lines, and the docstring gives no reason"
    )


def test_public_functions_are_documented():
    missing = []
    for file in (file for file in FILES if not within(file, NOT_YET)):
        listed = list(functions(file))
        said = {function.node.name for function in listed if function.outer and function.doc}
        for one in listed:
            fine = one.doc or one.node.name in KNOWN or is_only_declared(one) or (one.outer and one.node.name in said)
            if one.public and not fine:
                missing.append(one.place)
    assert not missing


def test_what_a_function_refuses_is_in_its_docstring():
    silent = [
        function.place
        for file in FILES
        if not within(file, (*COMMANDS, *NOT_YET))
        for function in functions(file)
        if function.public and function.node.name not in KNOWN and raises(function.node) and "aise" not in function.doc
    ]
    assert not silent


def test_long_lines_are_not_kept_from_the_formatter():
    checked = [file for file in FILES if not within(file, NOT_YET)]
    assert not [str(file) for file in checked if "fmt: skip" in file.read_text(encoding="utf-8")]
