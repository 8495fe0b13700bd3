"""Locks on open files, between processes: gone when the file is closed or its process ends, however it ends."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30
    """Windows keeps others from reading what is locked, so a byte far behind the file's text is."""

    def _try(file: IO[str]) -> bool:
        file.seek(FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0)
        return True

    def _try_shared(file: IO[str]) -> bool:
        return _try(file)  # Windows' C library has no shared locks: one reader at a time

else:
    import fcntl

    def _flock(file: IO[str], kind: int) -> bool:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _try(file: IO[str]) -> bool:
        return _flock(file, fcntl.LOCK_EX)

    def _try_shared(file: IO[str]) -> bool:
        return _flock(file, fcntl.LOCK_SH)


def try_lock(file: IO[str], patience_seconds: float = 0.0) -> bool:
    """Take the lock if nobody has it, or lets go of it in time; whether that worked."""
    until = time.monotonic() + patience_seconds
    while not _try(file):
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)
    return True


def try_shared_lock(file: IO[str]) -> bool:
    """Take a reader's lock, which others may have at the same time, unless a writer has the lock; whether that worked."""
    return _try_shared(file)


def wait_for_lock(file: IO[str]) -> None:
    """Take the lock, waiting for whoever has it."""
    try_lock(file, patience_seconds=float("inf"))


def is_locked(path: Path) -> bool:
    """Whether a process has the lock of the file now; the file is not changed."""
    try:
        with path.open("r", encoding="utf-8") as file:
            return not try_lock(file)
    except OSError:
        return False
