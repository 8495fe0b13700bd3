"""The papers' claims beside what was measured here: on the terminal, as JSON, and as tables in Markdown files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stillhouse.core.errors import UserError
from stillhouse.core.evidence import Claim, Evidence, load_evidence, read_evidence
from stillhouse.core.files import write_atomically
from stillhouse.reporting.numbers import significant

VERDICTS = ("held", "not separable", "not held")
NONE_YET = "No claim has been measured yet."
HEADER = (
    "| Claim | Paper | Measured here (95 % interval) | Threshold | Seeds | Verdict | Measure it again |",
    "| --- | ---: | ---: | ---: | ---: | --- | --- |",
)
STYLES = {"held": "green", "not separable": "yellow", "not held": "red"}


SOURCE_RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
PACKAGED_RESULTS = Path(__file__).resolve().parents[1] / "evidence"


def results_folder() -> Path | None:
    """The result files that came with stillhouse: of its source tree, or packed into it."""
    return next((folder for folder in (SOURCE_RESULTS, PACKAGED_RESULTS) if folder.is_dir()), None)


def claims_of(methods: Sequence[str]) -> list[Evidence]:
    """What was measured of these methods' papers, where result files are there and can be read."""
    folder, found = results_folder(), []
    for method in dict.fromkeys(methods):
        file = folder / f"{method}.json" if folder else None
        if file and file.is_file():
            with contextlib.suppress(UserError):
                evidence = read_evidence(file)
                found += [evidence] if evidence.claims else []
    return found


def print_claims(results: Path, as_json: bool) -> None:
    """Print all claims: a table on a terminal, a line each off it, or JSON.

    Raises:
        UserError: the folder is missing, or a file in it is not a result file.
    """
    found = load_evidence(results)
    console = Console()
    if as_json:
        print(json.dumps(claims_data(found), indent=1, ensure_ascii=False))
    elif not any(evidence.claims for evidence in found):
        print(NONE_YET)
    elif console.is_terminal:
        for evidence in found:
            console.print(_terminal_table(evidence))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in claim_lines(found)))


def claims_data(found: list[Evidence]) -> list[dict[str, Any]]:
    """Every claim as plain JSON values, with its method, commit and the minutes its benchmark took."""
    return [
        {
            "method": evidence.method,
            "commit": evidence.commit,
            "minutes": evidence.minutes,
            **{key: _json_value(value) for key, value in dataclasses.asdict(claim).items()},
        }
        for evidence in found
        for claim in evidence.claims
    ]


def claim_lines(found: list[Evidence]) -> list[str]:
    """A line a claim, in words."""
    return [
        f"{evidence.method}: {claim.verdict}: {claim.statement}: measured {measured(claim)}, "
        f"threshold {claim.threshold}, paper {significant(claim.paper) if claim.paper is not None else 'none'}, "
        f"{_seeds(claim)}, {claim.data}"
        for evidence in found
        for claim in evidence.claims
    ]


def measured(claim: Claim) -> str:
    """ "0.97 [0.93, 1.02]": the measured figure with its 95 % interval."""
    low, high = claim.interval
    return f"{significant(claim.measured)} [{significant(low)}, {significant(high)}]"


def claims_markdown(results: Path) -> str:
    """All claims: a heading line and a table a method.

    Raises:
        UserError: the folder is missing, or a file in it is not a result file.
    """
    parts = [_markdown_table(evidence) for evidence in load_evidence(results) if evidence.claims]
    return "\n\n".join(parts) or NONE_YET


def paper_claims_markdown(results: Path) -> str:
    """How many claims of each method held, and a table of those for which its paper has a figure.

    Raises:
        UserError: the folder is missing, or a file in it is not a result file.
    """
    parts = []
    for evidence in load_evidence(results):
        papers = [claim for claim in evidence.claims if claim.paper is not None]
        if evidence.claims:
            parts.append(f"**{evidence.method}**: {tally(evidence.claims)}")
        if papers:
            rows = [_markdown_row(replace(claim, note="")) for claim in papers]
            parts.append("\n".join([*HEADER, *rows]))
    return "\n\n".join(parts) or NONE_YET


def tally(claims: Sequence[Claim]) -> str:
    """ "3 held, 1 not held": how often each verdict was found."""
    counts: Counter[str] = Counter(claim.verdict for claim in claims)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])


BLOCKS = {"claims": claims_markdown, "paper claims": paper_claims_markdown}
"""What stands between the markers <!-- name --> and <!-- /name --> of a file."""


def update_file(file: Path, results: Path) -> bool:
    """Replace what stands between a file's markers by the claims of `results`; whether that changed the file.

    Raises:
        UserError: the file or its markers are missing, or a result file is damaged.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror})", "check the path") from error
    updated, found = text, False
    for name, markdown in BLOCKS.items():
        begin, end = updated.find(f"<!-- {name} -->"), updated.find(f"<!-- /{name} -->")
        if 0 <= begin < end:
            found = True
            updated = f"{updated[:begin]}<!-- {name} -->\n{markdown(results)}\n{updated[end:]}"
    if not found:
        raise UserError(
            f"{file} has no <!-- claims --> ... <!-- /claims -->", "add the two markers where the table belongs"
        )
    if updated != text:
        write_atomically(file, updated)
    return updated != text


def _terminal_table(evidence: Evidence) -> Table:
    table = Table(title=f"{evidence.method}, measured in {evidence.minutes:.0f} min", title_justify="left")
    for title in ("Claim", "Paper", "Measured (95 %)", "Threshold", "Seeds", "Verdict"):
        table.add_column(title, justify="right" if title in ("Paper", "Measured (95 %)", "Seeds") else "left")
    for claim in evidence.claims:
        verdict = Text(claim.verdict, style=STYLES[claim.verdict])
        # Text, because a statement may hold [brackets] that rich would take for markup
        table.add_row(
            Text(claim.statement),
            significant(claim.paper),
            Text(measured(claim)),
            claim.threshold,
            str(claim.seeds),
            verdict,
        )
    return table


def _markdown_table(evidence: Evidence) -> str:
    commit = f", commit {evidence.commit}" if evidence.commit else ""
    rows = [*HEADER, *(_markdown_row(claim) for claim in evidence.claims)]
    return "\n".join([f"**{evidence.method}** ({evidence.minutes:.0f} min{commit})", "", *rows])


def _markdown_row(claim: Claim) -> str:
    statement = f"{claim.statement} ({claim.data})" if claim.data else claim.statement
    note = f" {claim.note}" if claim.note else ""
    entries = (
        statement + note,
        significant(claim.paper),
        measured(claim),
        f"`{claim.threshold}`",
        str(claim.seeds),
        claim.verdict if claim.verdict == "held" else f"**{claim.verdict}**",
        f"`{claim.command}`",
    )
    return "| " + " | ".join(markdown_cell(entry) for entry in entries) + " |"


def markdown_cell(text: str) -> str:
    """Text that cannot break out of a Markdown table's cell, nor be taken for an HTML tag (code is left as it is)."""
    text = text if text.startswith("`") else re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return " ".join(text.replace("|", "\\|").split())


def _seeds(claim: Claim) -> str:
    return f"{claim.seeds} seed{'s' if claim.seeds != 1 else ''}"


def _json_value(value: Any) -> Any:
    """NaN and infinity have no JSON, so they become null."""
    if isinstance(value, tuple):
        return [_json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
