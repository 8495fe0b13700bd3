"""A run is a folder, and everything about a run is in it.

config.json  environment.json  stages.json  metrics.jsonl  log.txt  checkpoint/  model/  pictures/  result.json  report.html
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stillhouse.core.distributed import from_leader, rank
from stillhouse.core.environment import environment
from stillhouse.core.errors import UserError
from stillhouse.core.files import clear_temporaries, is_temporary, parse_json, read_json, write_json
from stillhouse.core.locks import try_lock
from stillhouse.core.result import Result, load_result


class Run:
    """An open run folder, locked against a second process.

    Use `Run.create` for a new folder, `Run.open` for one that exists, and close it (or use `with`).

    Attributes:
        folder: the run folder.
        method: catalogue name of the method.
        options: the method's config as plain values, as in config.json.
        seed: seed of everything random in the run.
        quiet: no progress on the terminal (the log file is still written).
        checkpoint_seconds: at most this much work is lost by a kill.
        leader: whether this process writes (rank 0 under torchrun; the others only read).
    """

    def __init__(self, folder: Path, *, quiet: bool = False, checkpoint_seconds: float = 30.0) -> None:
        self.folder = folder
        record = read_json(folder / "config.json")
        try:
            self.method: str = record["method"]
            self.options: dict[str, Any] = record["config"]
            self.seed = int(self.options.get("seed", 0))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise UserError(f"{folder / 'config.json'} is not a run's config", "name a run folder") from None
        self.quiet = quiet
        self.checkpoint_seconds = checkpoint_seconds
        self.leader = rank() == 0
        self._lock = self._take_lock() if self.leader else None
        if self.leader:
            clear_temporaries(folder, but=folder / "parts")  # parts have locks of their own

    @classmethod
    def create(
        cls,
        method: str,
        options: Mapping[str, Any],
        *,
        out: Path | None = None,
        quiet: bool = False,
        checkpoint_seconds: float = 30.0,
    ) -> Run:
        """Make a new run folder: `out`, or runs/<method>-<time>-<random>.

        Raises:
            UserError: `out` holds something already, or cannot be written to.
        """
        folder = out or Path("runs") / f"{method}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        if (folder / "config.json").exists():
            raise UserError(f"{folder} holds a run already", f"continue it with: stillhouse resume {folder}")
        if folder.exists() and not _as_good_as_empty(folder):
            raise UserError(f"{folder} exists and is not an empty folder", "choose another with --out")
        write_json(folder / "environment.json", environment())
        write_json(folder / "config.json", {"method": method, "config": dict(options)})  # the last: it makes the run
        return cls(folder, quiet=quiet, checkpoint_seconds=checkpoint_seconds)

    @classmethod
    def open(cls, folder: Path, *, quiet: bool = False, checkpoint_seconds: float = 30.0) -> Run:
        """Open an existing run folder.

        Raises:
            UserError: it is not a run folder, or another process works on it.
        """
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} is not a run folder (no config.json)", "see what is in runs/")
        return cls(folder, quiet=quiet, checkpoint_seconds=checkpoint_seconds)

    @property
    def checkpoint_folder(self) -> Path:
        """Where `fit` keeps each stage's state."""
        return self.folder / "checkpoint"

    @property
    def model_folder(self) -> Path:
        """Where a method saves what it made."""
        return self.folder / "model"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line: what `record` was given."""
        return self.folder / "metrics.jsonl"

    @property
    def result_file(self) -> Path:
        """The finished run's `Result`."""
        return self.folder / "result.json"

    @property
    def result(self) -> Result:
        """What the finished run found out.

        Raises:
            UserError: the run has not finished.
        """
        if not self.result_file.exists():
            raise UserError(f"{self.folder} has no result yet", f"finish it with: stillhouse resume {self.folder}")
        return load_result(self.result_file)

    def picture_file(self, name: str) -> Path:
        """Path for a picture called `name` (with its ending); its folder is made."""
        path = self.folder / "pictures" / name
        path.parent.mkdir(exist_ok=True)
        return path

    def log(self, message: str) -> None:
        """Add a line to log.txt, and show it unless quiet."""
        if not self.leader:
            return
        with self._writable(self.folder / "log.txt") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {message}\n")
        if not self.quiet:
            print(message, file=sys.stderr, flush=True)

    def record(self, **values: Any) -> None:
        """Add one line to metrics.jsonl."""
        if not self.leader:
            return
        with self._writable(self.metrics_file) as file:
            file.write(json.dumps(values) + "\n")

    def plan(self, stage: str, updates: int) -> None:
        """Note in stages.json how many updates a stage has, so that a reader can tell what is left."""
        if not self.leader:
            return
        file = self.folder / "stages.json"
        known = read_json(file) if file.exists() else {}
        if known.get(stage) != updates:
            write_json(file, {**known, stage: updates})

    def records(self, **equal: Any) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl whose entries equal those given; a line cut short by a kill is left out."""
        if not self.metrics_file.exists():
            return []
        found = []
        for line in self.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = parse_json(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and all(entry.get(key) == value for key, value in equal.items()):
                found.append(entry)
        return found

    def kept(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """`compute()`'s JSON value, kept in arms/<name>.json and taken from there when the run is resumed."""
        file = self.folder / "arms" / f"{name}.json"
        if not file.exists():
            write_json(file, compute())
        return dict(read_json(file))

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock:
            self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _writable(self, path: Path) -> IO[str]:
        try:
            return path.open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"cannot write {path} ({error.strerror})", "make room or give the run a writable folder"
            ) from error

    def _take_lock(self) -> IO[str]:
        try:
            lock = (self.folder / ".lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"cannot write in {self.folder} ({error.strerror})", "make the run folder writable"
            ) from error
        if not try_lock(
            lock, patience_seconds=0.2
        ):  # a reader that asks whether the run is at work has it for an instant
            lock.close()
            raise UserError(f"another process works on {self.folder}", "wait for it or stop it first")
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        return lock


def _as_good_as_empty(folder: Path) -> bool:
    """Whether nothing is in the folder but what a kill in `Run.create` leaves."""
    if not folder.is_dir():
        return False
    return all(entry.name == "environment.json" or is_temporary(entry) for entry in folder.iterdir())


@contextmanager
def temporary_run(name: str, seed: int, *, quiet: bool = True) -> Iterator[Run]:
    """A run in a folder that is gone afterwards, for networks that are trained on the way to something else."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        Run.create(name, {"seed": seed}, out=Path(scratch) / "run", quiet=quiet) as run,
    ):
        yield run


def open_part(whole: Path, name: str, *, quiet: bool = False, checkpoint_seconds: float = 30.0) -> Run:
    """A run inside the run `whole`, with its config and a lock of its own, so that processes can share the parts.

    Raises:
        UserError: `whole` is not a run folder, or another process works on this part.
    """
    folder = whole / "parts" / name
    opened, trouble = None, ""
    if rank() == 0:
        try:
            if not (folder / "config.json").exists():
                write_json(folder / "environment.json", environment())
                write_json(folder / "config.json", read_json(whole / "config.json"))
            opened = Run.open(folder, quiet=quiet, checkpoint_seconds=checkpoint_seconds)
        except UserError as error:
            trouble = json.dumps([error.what, error.mend])
    # only the first process sees the lock: the others must not begin what it passes over
    if trouble := from_leader(trouble):
        raise UserError(*json.loads(trouble))
    return opened or Run.open(folder, quiet=quiet, checkpoint_seconds=checkpoint_seconds)
