"""Progress of a stage: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich import progress as rich_progress
from rich.console import Console

PLAIN_EVERY_SECONDS = 15.0


class Progress:
    """Shows updates (or another unit), losses, speed and time left of one stage; use as a context manager."""

    def __init__(self, stage: str, updates: int, done: int, *, quiet: bool, unit: str = "updates") -> None:
        self.stage, self.updates, self.first, self.quiet, self.unit = stage, updates, done, quiet, unit
        self.started = self.said = time.monotonic()
        console = Console(stderr=True)
        self.bar = None
        if console.is_terminal and not quiet:
            self.bar = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(),
                rich_progress.MofNCompleteColumn(),
                rich_progress.TimeRemainingColumn(),
                rich_progress.TextColumn("{task.fields[losses]}"),
                console=console,
            )
            self.task = self.bar.add_task(stage, total=updates, completed=done, losses="")

    def __enter__(self) -> Progress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        """Show that `done` updates are done, with their losses."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        if self.bar:
            self.bar.update(self.task, completed=done, losses=text)
            return
        now = time.monotonic()
        if self.quiet or (now - self.said < PLAIN_EVERY_SECONDS and done < self.updates):
            return
        self.said = now
        speed = (done - self.first) / max(now - self.started, 1e-9)
        left = (self.updates - done) / speed
        print(
            f"{self.stage}: {done}/{self.updates}  {speed:.1f} {self.unit}/s  {left:.0f} s left  {text}",
            file=sys.stderr,
            flush=True,
        )
