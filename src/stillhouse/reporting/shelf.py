"""A folder of runs, read as far as is asked for, and again only what has changed.

Only what every run folder has is read (config.json, result.json, metrics.jsonl, stages.json), so runs of any method are found, and one
that is damaged is shown as such.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import parse_json
from stillhouse.core.locks import is_locked

State = Literal["running", "finished", "stopped", "broken"]
TAIL_BYTES = 400_000
POINTS = 300
"""Of a live curve, at most."""


@dataclass(frozen=True)
class Entry:
    """One run, as far as its config tells."""

    name: str
    folder: Path
    state: State
    method: str = ""
    data: str = ""
    seed: int = 0
    started: float = 0.0
    """Seconds since 1970."""
    trouble: str = ""
    """Why it is broken."""


@dataclass(frozen=True)
class Headline:
    """What a finished run found out, in a line."""

    summary: str
    metric: str = ""
    value: float | None = None
    teacher: float | None = None


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    stage: str
    update: int
    updates: int | None
    """Of this stage; None where the run does not say."""
    per_second: float | None
    losses: Mapping[str, float]
    evaluation: Mapping[str, float]
    """Newest metrics measured on the way."""
    curves: Mapping[str, tuple[tuple[float, float], ...]]
    """Losses of this stage by name: (update, value)."""

    @property
    def seconds_left(self) -> float | None:
        """Of this stage."""
        if self.updates is None or not self.per_second:
            return None
        return max(0.0, (self.updates - self.update) / self.per_second)


class Shelf:
    """The runs directly below a folder, or the folder itself where it is one."""

    def __init__(self, folder: Path) -> None:
        require(folder.is_dir(), f"no folder {folder}", "name a folder of runs, or make the first run")
        self.folder = folder
        self._configs: dict[str, tuple[int, Entry]] = {}
        self._headlines: dict[str, tuple[int, Headline | str]] = {}

    def entries(self) -> list[Entry]:
        """All runs, those at work first and then the newest; results are not read."""
        found = [entry for name, folder in self._folders() if (entry := self._entry(name, folder))]
        return sorted(found, key=lambda entry: (entry.state != "running", -entry.started, entry.name))

    def find(self, name: str) -> Entry:
        """The run of this name.

        Raises:
            UserError: there is none.
        """
        for known, folder in self._folders():
            if known == name and (entry := self._entry(name, folder)):
                return self.looked_into(entry)
        raise UserError(f"no run {name!r} in {self.folder}", "see the list of runs")

    def headline(self, entry: Entry) -> Headline | None:
        """What a finished run found out; None where there is nothing, or it cannot be read."""
        found = self._read_headline(entry) if entry.state == "finished" else None
        return found if isinstance(found, Headline) else None

    def looked_into(self, entry: Entry) -> Entry:
        """The entry, broken where its result cannot be read."""
        found = self._read_headline(entry) if entry.state == "finished" else None
        return replace(entry, state="broken", trouble=found) if isinstance(found, str) else entry

    def _folders(self) -> list[tuple[str, str]]:
        if (self.folder / "config.json").is_file():
            return [(self.folder.resolve().name, str(self.folder))]
        with os.scandir(self.folder) as entries:
            return [(e.name, e.path) for e in entries if e.name[0] != "." and e.is_dir()]

    def _entry(self, name: str, folder: str) -> Entry | None:
        # paths as text: a thousand Path objects take longer than a thousand looks at the disk
        changed = _changed(os.path.join(folder, "config.json"))  # noqa: PTH118
        if changed is None:
            return None
        known = self._configs.get(name)
        if known is None or known[0] != changed:
            known = self._configs[name] = (changed, _read_config(name, Path(folder), changed))
        entry = known[1]
        if entry.state == "broken" or _changed(os.path.join(folder, "result.json")) is not None:  # noqa: PTH118
            return entry
        return replace(entry, state="running" if is_locked(entry.folder / ".lock") else "stopped")

    def _read_headline(self, entry: Entry) -> Headline | str:
        file = entry.folder / "result.json"
        changed = _changed(file) or 0
        known = self._headlines.get(entry.name)
        if known is None or known[0] != changed:
            known = self._headlines[entry.name] = (changed, _headline(file))
        return known[1]


def _changed(file: Path | str) -> int | None:
    try:
        return os.stat(file).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None


def _read_config(name: str, folder: Path, changed: int) -> Entry:
    try:
        record = parse_json((folder / "config.json").read_text(encoding="utf-8"))
        config = record["config"]
        seed = config.get("seed", 0)
        return Entry(
            name,
            folder,
            "finished",
            str(record["method"]),
            str(config.get("data", "")),
            seed if isinstance(seed, int) else 0,
            changed / 1e9,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        trouble = "config.json cannot be read as a run's config"
        return Entry(name, folder, "broken", started=changed / 1e9, trouble=trouble)


def _headline(file: Path) -> Headline | str:
    """Read without building the whole result: a list needs four values of it."""
    try:
        raw = parse_json(file.read_text(encoding="utf-8"))
        summary, metrics = str(raw["summary"]), raw["metrics"]
        first = {arm["role"]: arm["metrics"] for arm in reversed(raw["arms"])}
        if not metrics:
            return Headline(summary)
        key = metrics[0]["key"]
        student, teacher = (first.get(role, {}).get(key) for role in ("student", "teacher"))
        return Headline(summary, str(metrics[0]["title"]), _number(student), _number(teacher))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "result.json cannot be read as a result"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def progress_of(folder: Path) -> Progress | None:
    """Where a run is, from the end of its metrics; None before its first line. Of a run in parts, the part last at work."""
    folder = max((folder, *folder.glob("parts/*")), key=lambda place: _changed(place / "metrics.jsonl") or 0)
    lines = _tail(folder / "metrics.jsonl")
    losses = [line for line in lines if "stage" in line and "update" in line and "evaluation" not in line]
    if not losses:
        return None
    stage = str(losses[-1]["stage"])
    mine = [line for line in losses if line["stage"] == stage]
    last = mine[-1]
    evaluations = [line["evaluation"] for line in lines if isinstance(line.get("evaluation"), dict)]
    curves = {name: _thinned(mine, name) for name in last if name not in ("stage", "update", "seconds")}
    return Progress(
        stage,
        int(last["update"]),
        _planned(folder, stage),
        _speed(mine),
        {name: points[-1][1] for name, points in curves.items() if points},
        {k: float(v) for k, v in (evaluations[-1] if evaluations else {}).items() if isinstance(v, int | float)},
        curves,
    )


def _tail(file: Path) -> list[dict[str, Any]]:
    """The last lines as objects; lines that a reader catches half-written are left out."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        try:
            value = parse_json(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _thinned(lines: list[dict[str, Any]], name: str) -> tuple[tuple[float, float], ...]:
    points = [(float(line["update"]), line[name]) for line in lines if isinstance(line.get(name), int | float)]
    kept = points[:: max(1, math.ceil(len(points) / POINTS))]
    return tuple(dict.fromkeys([*kept, *points[-1:]]))


def _speed(lines: list[dict[str, Any]]) -> float | None:
    """Updates a second over the last tenth of the lines, at least two."""
    some = [line for line in lines if isinstance(line.get("seconds"), int | float)]
    some = some[-max(2, len(some) // 10) :]
    if len(some) < 2 or some[-1]["seconds"] <= some[0]["seconds"]:
        return None
    return float((some[-1]["update"] - some[0]["update"]) / (some[-1]["seconds"] - some[0]["seconds"]))


def _planned(folder: Path, stage: str) -> int | None:
    try:
        planned = parse_json((folder / "stages.json").read_text(encoding="utf-8"))[stage]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return planned if isinstance(planned, int) else None


def when(entry: Entry) -> str:
    """Its start as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.started))


def print_runs(folder: Path, *, as_json: bool) -> None:
    """A line a run, the newest first.

    Raises:
        UserError: no such folder.
    """
    shelf = Shelf(folder)
    entries = [shelf.looked_into(entry) for entry in shelf.entries()]
    if as_json:
        print(json.dumps([_plain(shelf, entry) for entry in entries], indent=1))
        return
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        headline = shelf.headline(entry)
        told = entry.trouble or (headline.summary if headline else "")
        print(f"{entry.name:{width}}  {entry.state:8}  {when(entry)}  {entry.method}  {told}".rstrip())


def _plain(shelf: Shelf, entry: Entry) -> dict[str, Any]:
    headline = shelf.headline(entry)
    return {**vars(entry), "folder": str(entry.folder), "headline": vars(headline) if headline else None}
