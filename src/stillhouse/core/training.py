"""The one loop for gradient training: progress, metrics, checkpoints, signals, non-finite losses.

A stage's state lives in checkpoint/<stage>/<updates>.safetensors. Calling `fit` again for a stage restores the
newest one and goes on; for a finished stage it restores the final state and returns at once. A method's `distill`
is therefore written straight through, and resuming is calling it again.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from stillhouse.core.checkpoint import load_checkpoint, nan_in, save_checkpoint
from stillhouse.core.distributed import any_process
from stillhouse.core.errors import Interrupted, UserError
from stillhouse.core.files import write_atomically
from stillhouse.core.progress import Progress
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything


class Stateful(Protocol):
    """Anything a checkpoint can hold: networks, optimizers, averages, ledgers."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


@dataclass(frozen=True)
class Fitted:
    """What a stage took."""

    updates: int
    seconds: float
    """Wall-clock seconds of training, evaluations and checkpoints left out, summed over resumes."""


def fit(
    step: Callable[[int], Mapping[str, float | torch.Tensor]],
    state: Mapping[str, Stateful],
    updates: int,
    run: Run,
    *,
    stage: str,
    evaluate: Callable[[int, float], None] | None = None,
    evaluate_at: frozenset[int] = frozenset(),
    seed: int | None = None,
    agree: Callable[[bool], bool] = any_process,
) -> Fitted:
    """Call `step(0) ... step(updates - 1)`, keeping `state` safe, and return what it took.

    Args:
        step: does update i (which optimizer steps is its own business) and returns its losses by name.
        state: every object that update i + 1 depends on, by name; restored in place.
        updates: how many updates the stage has.
        run: the run folder.
        stage: name of the stage, unique within the run; seeds its random numbers with the run's seed.
        evaluate: called with the updates done and the seconds they took, whenever the former is in `evaluate_at`.
        evaluate_at: when to evaluate.
        seed: seed of the stage's random numbers; the run's unless the outcome is shared between runs (a teacher).
        agree: makes of this process's wish to stop that of all; `bool` where each process trains by itself.

    Raises:
        UserError: a loss is not finite (the last good checkpoint stays), or a checkpoint does not fit `state`.
        Interrupted: SIGINT or SIGTERM came; the state was saved.
    """
    folder = run.checkpoint_folder / stage
    done, seconds = _restore(state, folder, run)
    if done >= updates:
        return Fitted(done, seconds)
    run.plan(stage, updates)
    if run.leader:
        _forget_metrics_after(done, stage, run)
    progress = Progress(stage, updates, done, quiet=run.quiet or not run.leader)
    saved_at = time.monotonic()
    with progress, _stop_signals() as stop:
        if done == 0 and 0 in evaluate_at and evaluate:
            evaluate(0, seconds)
        while done < updates:
            started = time.monotonic()
            seed_everything(run.seed if seed is None else seed, stage, done)
            losses = {name: _number(value) for name, value in step(done).items()}
            _require_finite(losses, stage, done, folder)
            done += 1
            seconds += time.monotonic() - started
            progress.update(done, losses)
            if done % max(1, updates // 200) == 0 or done == updates:
                run.record(stage=stage, update=done, seconds=round(seconds, 3), **losses)
            if evaluate and done in evaluate_at:
                evaluate(done, seconds)
            due = time.monotonic() - saved_at > run.checkpoint_seconds or done in evaluate_at
            stopping = agree(stop.is_set())
            if due or done == updates or stopping:
                _save(state, folder, done, seconds, run, stage)
                saved_at = time.monotonic()
            if stopping:
                raise Interrupted(
                    f"stopped after update {done} of stage {stage!r}; go on with: stillhouse resume {run.folder}"
                )
    return Fitted(done, seconds)


def _number(value: float | torch.Tensor) -> float:
    # detached: a loss that still carries its graph would warn on every update
    return float(value.detach() if isinstance(value, torch.Tensor) else value)


def _save(state: Mapping[str, Stateful], folder: Path, done: int, seconds: float, run: Run, stage: str) -> None:
    if not run.leader:
        return
    position = {"done": done, "seconds": seconds}
    objects = {name: item.state_dict() for name, item in state.items()}
    _require_numbers(objects, stage, done, folder)
    save_checkpoint({"position": position, "state": objects}, folder / f"{done:09d}.safetensors")
    for old in _checkpoints(folder)[:-2]:
        old.unlink()


def _restore(state: Mapping[str, Stateful], folder: Path, run: Run) -> tuple[int, float]:
    """Load the newest checkpoint of the stage into `state`; updates done and seconds taken so far."""
    found = _checkpoints(folder)
    if not found:
        return 0, 0.0
    saved = load_checkpoint(found[-1])
    kept = saved.get("state")
    kept = kept if isinstance(kept, dict) else {}
    if set(kept) != set(state):
        raise UserError(
            f"checkpoint {found[-1]} holds {sorted(map(str, kept))}, the run needs {sorted(state)}",
            "resume with the version of stillhouse that started the run",
        )
    for name, item in state.items():
        try:
            item.load_state_dict(kept[name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError(
                f"checkpoint {found[-1]} does not fit {name!r} ({error})",
                "start a new run for a changed config",
            ) from error
    try:
        return int(saved["position"]["done"]), float(saved["position"]["seconds"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"checkpoint {found[-1]} does not say where it was", "remove that file") from error


def _forget_metrics_after(done: int, stage: str, run: Run) -> None:
    """Drop the stage's lines written after its checkpoint: their updates are done again."""

    def stays(entry: dict[str, Any]) -> bool:
        return entry.get("stage") != stage or (done > 0 and entry.get("update", 0) <= done)

    kept = "".join(json.dumps(entry) + "\n" for entry in run.records() if stays(entry))
    # compared as text: a line that a kill cut short must go too, or the next one would be glued to it
    if run.metrics_file.exists() and run.metrics_file.read_text(encoding="utf-8") != kept:
        write_atomically(run.metrics_file, kept)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.safetensors"))


def _require_finite(losses: Mapping[str, float], stage: str, update: int, folder: Path) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise UserError(f"loss {name!r} is {value} at update {update} of stage {stage!r}", _last_good(folder))


def _require_numbers(objects: Mapping[str, Any], stage: str, done: int, folder: Path) -> None:
    """A finite loss may leave a gradient that is not: a state of such weights would never be resumed from."""
    place = nan_in(objects)
    if place is not None:
        raise UserError(f"{place} is nan after update {done} of stage {stage!r}", _last_good(folder))


def _last_good(folder: Path) -> str:
    kept = _checkpoints(folder)
    return f"lower the learning rate; the last good state is {kept[-1] if kept else 'the start of the stage'}"


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, instead of ending the process in mid-update."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
