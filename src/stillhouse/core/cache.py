"""Things made once and kept: trained teachers, feature networks, metrics; found again by their content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stillhouse.core.errors import UserError
from stillhouse.core.files import content_hash, make_folder_atomically
from stillhouse.core.locks import wait_for_lock


def cache_root() -> Path:
    """$STILLHOUSE_CACHE, or the user's cache folder."""
    given = os.environ.get("STILLHOUSE_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "stillhouse"


def cached_folder(kind: str, key: tuple[bytes | str, ...], make: Callable[[Path], None]) -> Path:
    """Folder of this kind and key; if absent, `make(folder)` fills it, and it appears whole or not at all."""
    folder = cache_root() / kind / content_hash(key)
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = folder.with_name(f".{folder.name}.lock").open("w")
        except OSError as error:
            raise UserError(
                f"cannot write in the cache {cache_root()} ({error.strerror})",
                "set $STILLHOUSE_CACHE to a writable folder",
            ) from error
        with lock:
            wait_for_lock(lock)  # another process may be making it
            if not folder.is_dir():
                make_folder_atomically(folder, make)
    return folder
