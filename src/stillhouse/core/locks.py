"""Locks on open files, between processes: gone when the file is closed or its process ends, however it ends."""

from __future__ import annotations

import sys
import time
from typing import IO

if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30
    """Windows keeps others from reading what is locked, so a byte far behind the file's text is."""

    def try_lock(file: IO[str]) -> bool:
        """Take the lock if nobody has it; whether that worked."""
        file.seek(FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0)
        return True

    def wait_for_lock(file: IO[str]) -> None:
        """Take the lock, waiting for whoever has it."""
        while not try_lock(file):
            time.sleep(0.1)

else:
    import fcntl

    def try_lock(file: IO[str]) -> bool:
        """Take the lock if nobody has it; whether that worked."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def wait_for_lock(file: IO[str]) -> None:
        """Take the lock, waiting for whoever has it."""
        fcntl.flock(file, fcntl.LOCK_EX)
