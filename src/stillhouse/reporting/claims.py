"""The papers' claims beside what was measured here: on the terminal, as JSON, and as the README's table."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stillhouse.core.errors import UserError
from stillhouse.core.evidence import Claim, Evidence, load_evidence
from stillhouse.core.files import write_atomically
from stillhouse.reporting.numbers import significant

BEGIN, END = "<!-- claims -->", "<!-- /claims -->"
NONE_YET = "No claim has been measured yet."
STYLES = {"held": "green", "not separable": "yellow", "not held": "red"}


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
    """The README's tables: a heading line and a table a method.

    Raises:
        UserError: the folder is missing, or a file in it is not a result file.
    """
    parts = [_markdown_table(evidence) for evidence in load_evidence(results) if evidence.claims]
    return "\n\n".join(parts) or NONE_YET


def update_readme(readme: Path, results: Path) -> bool:
    """Replace what stands between the claims markers by `claims_markdown(results)`; whether that changed the file.

    Raises:
        UserError: the file or one of its markers is missing, or a result file is damaged.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {readme} ({error.strerror})", "check the path") from error
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        raise UserError(f"{readme} has no {BEGIN} ... {END}", "add the two markers where the table belongs")
    updated = f"{text[: begin + len(BEGIN)]}\n{claims_markdown(results)}\n{text[end:]}"
    if updated != text:
        write_atomically(readme, updated)
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
    rows = [
        "| Claim | Paper | Measured here (95 % interval) | Threshold | Seeds | Verdict | Measure it again |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
        *(_markdown_row(claim) for claim in evidence.claims),
    ]
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
