"""Things made once and kept: trained teachers, feature networks, metrics; found again by their content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.core.errors import UserError
from stillhouse.core.files import content_hash, make_folder_atomically
from stillhouse.core.locks import wait_for_lock

if TYPE_CHECKING:
    from stillhouse.core.run import Run


def cache_root() -> Path:
    """$STILLHOUSE_CACHE, or the user's cache folder."""
    given = os.environ.get("STILLHOUSE_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "stillhouse"


def cached_folder(kind: str, key: tuple[bytes | str, ...], make: Callable[[Path], None]) -> Path:
    """Folder of this kind and key; if absent, `make(folder)` fills it, and it appears whole or not at all.

    Raises:
        UserError: the cache cannot be written to.
    """
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


def trained_once(
    kind: str, key: tuple[bytes | str, ...], run: Run, stage: str, train: Callable[[], Callable[[Path], None]]
) -> Path:
    """Folder of this kind and key; if absent, what `train` makes in a stage of the run, so that a kill costs no more than elsewhere.

    Args:
        kind: what it is, for the cache.
        key: everything that decides the outcome.
        run: whose checkpoints hold the stage until it is done.
        stage: its name; the checkpoints of that stage are removed when the cache has the outcome.
        train: trains, and returns what writes the outcome into a folder.
    """
    folder = cache_root() / kind / content_hash(key)
    if folder.is_dir():
        run.log(f"{stage} from the cache: {folder}")
        return folder
    run.log(f"{stage}: trained once and kept in the cache")
    make_folder_atomically(folder, train())
    shutil.rmtree(run.checkpoint_folder / stage, ignore_errors=True)
    return folder
