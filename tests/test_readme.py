"""The README says what is there: its table is the catalogue, its commands exist, its claims are the result files'."""

import re
from pathlib import Path

from stillhouse.catalog import CATALOG, COMMAND_HOMES
from stillhouse.cli import COMMANDS, methods_markdown
from stillhouse.reporting.claims import claims_markdown, paper_claims_markdown

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
AGAIN = "write it again with: stillhouse claims --readme README.md docs/claims.md"


def between(name, text=README):
    return text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


def test_methods_table_is_the_catalogue():
    assert between("methods") == methods_markdown(), "write it again with: stillhouse list --as markdown"


def test_claims_tables_are_the_result_files():
    results, page = ROOT / "benchmarks" / "results", (ROOT / "docs" / "claims.md").read_text()
    assert between("paper claims") == paper_claims_markdown(results).strip(), AGAIN
    assert between("claims", page) == claims_markdown(results).strip(), AGAIN


def test_make_targets_and_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for command in re.findall(r"^    stillhouse (\w+)", README, re.M):
        assert command in {"run", *COMMANDS, *CATALOG, *COMMAND_HOMES}, command


def test_pictures_are_there():
    pictures = re.findall(r'<img src="([^"]+)"', README)
    assert len(pictures) == 2
    for path in pictures:
        assert (ROOT / path).is_file(), path
