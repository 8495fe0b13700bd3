"""Faults on purpose: real processes, forked where everything is imported already, and what is done to them.

A child carries out `stillhouse` as the command would and ends with its exit code. What goes wrong is an `Order`: at
its n-th write, or after some seconds, the process is killed, the disk fills, a folder becomes read-only, and so on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# one thread a process, before anything heavy is imported: a process with threads cannot be forked
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
NOBODY = 65534
"""Root may write anywhere; a process that is to meet a read-only folder gives its rights up."""
PATIENCE_SECONDS = 180.0
"""A child that takes longer hangs."""


@dataclass(frozen=True)
class Places:
    """Where a child works. All of it lies on one small file system, where one could be mounted."""

    root: Path
    method: str
    options: dict[str, Any]
    name: str = "run"

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.root / self.name

    @property
    def cache(self) -> Path:
        """Its $STILLHOUSE_CACHE."""
        return self.root / "cache"

    @property
    def data(self) -> Path:
        """The user's own data, where the options name any."""
        return self.root / "data"

    @property
    def scratch(self) -> Path:
        """Its home and $TMPDIR."""
        return self.root / "scratch"

    @property
    def notes(self) -> Path:
        """What child and parent tell one another; not on the small file system, which may be full."""
        return self.root.with_name(f"{self.root.name}-notes")

    def make(self) -> Places:
        """The folders, empty where they are new."""
        for folder in (self.root, self.cache, self.scratch, self.notes):
            folder.mkdir(parents=True, exist_ok=True)
        return self


@dataclass(frozen=True)
class Order:
    """What goes wrong, and when."""

    kind: str
    write: int = 0
    """At this write, rename, removal or new folder of the child (counted from 1); 0 for none."""
    read: int = 0
    """At this opening of the user's data."""
    step: int = 0
    """At this update of any stage (non-finite numbers)."""
    seconds: float = 0.0
    """So long after the child began; 0 for not by the clock."""


@dataclass
class Ended:
    """How a child ended."""

    code: int | None
    """Exit code, negative for a signal, None if it hung and was killed."""
    said: list[str]
    """Lines of standard error."""
    seconds: float
    writes: int = 0
    """How many writes the child counted."""
    struck: bool = True
    """Whether the fault came about before the child ended."""
    modules: tuple[str, ...] = ()
    """What the child had imported at its end."""


# ---- in the child ----


class Watch:
    """Counts what the child does to its files, and strikes at the moment that was ordered."""

    def __init__(self, places: Places, order: Order, note: Path) -> None:
        self.places, self.order, self.note = places, order, note
        self.writes = self.reads = 0
        self.inside = False
        self.below, self.data = str(places.root), str(places.data)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.inside or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self.below):
            return
        writing = event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        self.inside = True
        try:
            if writing:
                self.writes += 1
                if self.writes == self.order.write:
                    strike(self.order.kind, self.places, self.note)
            elif os.fspath(path).startswith(self.data):
                self._read()
        finally:
            self.inside = False

    def _read(self) -> None:
        self.reads += 1
        if self.order.kind == "slow source":
            self.note.touch()
            time.sleep(0.02)
        elif self.reads == self.order.read:
            strike(self.order.kind, self.places, self.note)
        elif self.order.kind == "failing source" and self.reads >= self.order.read:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def strike(kind: str, places: Places, note: Path, pid: int | None = None) -> None:
    """Do what was ordered: to this process, or to the process `pid`, or to the folders it works in."""
    note.touch()
    if kind == "kill -9":
        os.kill(pid or os.getpid(), signal.SIGKILL)
    elif kind == "SIGTERM":
        os.kill(pid or os.getpid(), signal.SIGTERM)
    elif kind == "full disk":
        fill(places.root)
    elif kind == "file too large":
        resource.prlimit(pid or os.getpid(), resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
    elif kind == "read-only":
        set_writable(places, False)
    elif kind == "vanishing source":
        places.data.rename(places.root / "data that went away")
    elif kind == "failing source":
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def fill(root: Path) -> None:
    """Leave no byte on the file system."""
    with contextlib.suppress(OSError), (root / "ballast").open("ab", buffering=0) as file:
        while free := shutil.disk_usage(root).free:
            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)


def set_writable(places: Places, writable: bool) -> None:
    """Allow or forbid everyone to change the run folder, all of it."""
    for folder in [places.run, *(path for path in places.run.rglob("*") if path.is_dir())]:
        folder.chmod(0o777 if writable else 0o555)


def child(places: Places, order: Order, note: Path, report: Path) -> None:
    """Carry the run out, from its start or from where it is, with the fault that was ordered."""
    with report.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in ("HOME", "TMPDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
        os.environ[name] = str(places.scratch)
    os.environ["STILLHOUSE_CACHE"] = str(places.cache)
    import tempfile

    import torch

    tempfile.tempdir = None
    torch.set_num_threads(1)
    if order.kind == "read-only" and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    watch = Watch(places, order, note)
    sys.addaudithook(watch)
    patch(order, note)
    from stillhouse.cli import carry_out

    code = 1
    try:
        code = carry_out(lambda: work(places))
    finally:
        sys.stderr.flush()
        watch.inside = True
        if not order.kind:
            note.write_text(json.dumps([watch.writes, sorted(sys.modules)]))
        if code == 1:
            import traceback

            traceback.print_exc()
        os._exit(code)


def work(places: Places) -> None:
    """Start the run, or go on with it."""
    from stillhouse import launch
    from stillhouse.catalog import load_method

    if (places.run / "config.json").exists():
        launch.resume(places.run, quiet=True, checkpoint_seconds=0)
        return
    config = launch.with_options(load_method(places.method).PRESETS["laptop"], dict(places.options))
    launch.start(places.method, config, out=places.run, quiet=True, checkpoint_seconds=0)


def patch(order: Order, note: Path) -> None:
    """Faults that live inside the process: the clock, losses and gradients."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    if order.kind == "clock set back":
        real, began = time.time, time.monotonic()

        def earlier() -> float:
            if time.monotonic() - began < order.seconds:
                return real()
            note.touch()
            return real() - 86_400

        time.time = earlier
    elif order.kind == "non-finite loss":
        from stillhouse.core import training

        number, calls = training._number, iter(range(1, 1 << 30))

        def not_a_number(value: Any) -> float:
            if next(calls) < order.step:
                return number(value)
            note.touch()
            return float("nan")

        training._number = not_a_number
    elif order.kind == "non-finite gradient":
        steps = iter(range(1, 1 << 30))

        def poison(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if next(steps) == order.step:
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        if parameter.grad is not None:
                            note.touch()
                            parameter.grad.view(-1)[0] = float("nan")

        register_optimizer_step_pre_hook(poison)


# ---- in the parent ----


def import_beforehand(modules: Iterable[str]) -> None:
    """Import here what children will need, so that a fork has it at once."""
    for name in modules:
        if not name.startswith("_"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def carried_out(context: Any, places: Places, order: Order) -> Ended:
    """Let a child work under the fault, and say how it ended."""
    note, report = places.notes / "struck", places.notes / "said"
    for file in (note, report):
        file.unlink(missing_ok=True)
    process = context.Process(target=child, args=(places, order, note, report))
    began = time.monotonic()
    process.start()
    if order.seconds and order.kind != "clock set back":
        process.join(order.seconds)
        if process.is_alive():
            kind = "SIGTERM" if order.kind == "slow source" else order.kind
            strike(kind, places, note, process.pid)
    process.join(PATIENCE_SECONDS)
    hung = process.is_alive()
    if hung:
        process.kill()
        process.join()
    said = report.read_text(errors="replace").splitlines() if report.exists() else []
    ended = Ended(None if hung else process.exitcode, said, time.monotonic() - began, struck=note.exists())
    process.close()
    if not order.kind and note.exists() and note.stat().st_size:
        writes, modules = json.loads(note.read_text())
        ended.writes, ended.modules = writes, tuple(modules)
    return ended


def beside(context: Any, places: Places, after_seconds: float) -> tuple[Ended, Ended] | None:
    """Two processes on one run folder, the second `after_seconds` later; then the first is killed.

    Returns:
        How the first and the second ended; None if the first had ended by itself.
    """
    note, report = places.notes / "first struck", places.notes / "first said"
    report.unlink(missing_ok=True)
    first = context.Process(target=child, args=(places, Order("first"), note, report))
    began = time.monotonic()
    first.start()
    first.join(after_seconds)
    while first.is_alive() and not (places.run / ".lock").exists():
        first.join(0.05)
    if not first.is_alive():
        return None
    second = carried_out(context, places, Order("second"))
    at_work = first.is_alive()
    first.kill()
    first.join()
    said = report.read_text(errors="replace").splitlines()
    return (Ended(first.exitcode, said, time.monotonic() - began), second) if at_work else None


def mended(places: Places, order: Order) -> None:
    """Undo what the fault did to the folders, as the user would."""
    (places.root / "ballast").unlink(missing_ok=True)
    if order.kind == "read-only":
        set_writable(places, True)
    away = places.root / "data that went away"
    if away.exists():
        away.rename(places.data)


@contextlib.contextmanager
def small_disk(root: Path, megabytes: int) -> Iterator[bool]:
    """A file system of its own at `root`, if this machine allows to mount one; whether it does."""
    root.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(root)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(root)], check=True)


def open_to_all(places: Places) -> None:
    """Let a process without rights own everything below the root, where this one has more."""
    for top in (places.root, places.notes):
        for path in [top, *top.rglob("*")]:
            path.chmod(0o777 if stat.S_ISDIR(path.lstat().st_mode) else 0o666)
            if os.geteuid() == 0:
                os.chown(path, NOBODY, NOBODY)


# ---- what must be so afterwards ----


def fingerprint(run: Path) -> dict[str, str]:
    """What two runs of one config must have in common: every record, every tensor, every byte of other model files."""
    from safetensors.torch import load_file

    from golden import timeless_records

    records = sorted(
        timeless_records(run), key=lambda line: line["stage"]
    )  # a stage done again stands behind the others
    found = {"records": _digest(json.dumps(records).encode())}
    for path in sorted((run / "model").rglob("*")):
        name = str(path.relative_to(run))
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            parts = [
                f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode()
                + tensor.reshape(-1).view(torch_bytes()).numpy().tobytes()
                for key, tensor in sorted(tensors.items())
            ]
            found[name] = _digest(*parts)
        elif path.is_file() and path.suffix not in (".md", ".json", ".html"):
            found[name] = _digest(path.read_bytes())
    return found


def torch_bytes() -> Any:
    """The type of a byte."""
    import torch

    return torch.uint8


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def artifacts(places: Places) -> dict[str, str]:
    """What is finished, by its path: files that must not be lost, and for each stage how far its checkpoints are."""
    found = {}
    for file in places.run.rglob("*"):
        name = str(file.relative_to(places.root))
        own = file.parent == places.run and file.name in ("config.json", "result.json")
        if file.parent.name == "arms" or own:
            found[name] = _digest(file.read_bytes())
        elif file.parent.parent.name == "checkpoint" and file.suffix == ".safetensors":
            stage = f"{file.parent.relative_to(places.root)} at"
            found[stage] = max(found.get(stage, ""), file.stem)
        elif file.parent.name == "model":
            found[f"{file.parent.relative_to(places.root)}/"] = "there"
    for kind in places.cache.glob("*"):
        for entry in kind.glob("[!.]*"):
            found[str(entry.relative_to(places.root))] = "there"
    return found


def lost(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Which artifacts of before are gone, changed, or further back."""
    wrong = []
    grown = any(name.startswith("cache/") and name not in before for name in after)
    for name, value in before.items():
        now = after.get(name)
        if name.endswith(" at") and now is None and grown:
            continue  # a network that is finished and cached needs its checkpoints no more
        if now is None or (now < value if name.endswith(" at") else now != value):
            wrong.append(f"{name}: {value} -> {now}")
    return wrong


def broken(places: Places) -> list[str]:
    """Files of the run that are neither whole nor absent."""
    from stillhouse.core.checkpoint import load_checkpoint
    from stillhouse.core.errors import UserError

    found = []
    for file in sorted(places.run.rglob("*")):
        try:
            if file.suffix == ".json":
                json.loads(file.read_text())
            elif file.suffix == ".safetensors" and file.parent.parent.name == "checkpoint":
                load_checkpoint(file)
        except (ValueError, OSError, UserError) as error:
            found.append(f"{file}: {error}")
    return found


def leftovers(places: Places) -> list[str]:
    """Temporary files of processes that are gone."""
    from stillhouse.core.files import is_temporary

    return sorted(str(path.relative_to(places.root)) for path in places.run.rglob(".*") if is_temporary(path))
