"""A finished run as its files tell it, read without taking the run's lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.core.errors import UserError
from stillhouse.core.files import read_json
from stillhouse.core.result import Result, load_result


@dataclass(frozen=True)
class FinishedRun:
    """What pages are made from, and nothing else."""

    folder: Path
    method: str
    options: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: Result

    @property
    def name(self) -> str:
        """The run folder's own name."""
        return self.folder.resolve().name


def read_finished(folder: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        UserError: not a run folder, not finished, or one of its files is damaged.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a run folder (no config.json)", "see what is in runs/")
    if not (folder / "result.json").is_file():
        raise UserError(f"{folder} has not finished", f"finish it with: stillhouse resume {folder}")
    record = read_json(folder / "config.json")
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise UserError(f"{folder / 'config.json'} is not a run's config", "name a run folder")
    place = folder / "environment.json"
    return FinishedRun(
        folder,
        str(record.get("method", "")),
        record["config"],
        read_json(place) if place.is_file() else {},
        load_result(folder / "result.json"),
    )
