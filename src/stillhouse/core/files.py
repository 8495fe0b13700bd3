"""Files that are either whole or absent: written beside, synced, renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from stillhouse.core.errors import UserError, first_line

TEMPORARY = ".stillhouse-tmp"
"""Ending of files and folders that are not whole yet."""


def is_temporary(path: Path) -> bool:
    """Whether `path` is a file or folder that somebody is making, or was making when the process was killed."""
    return path.name.startswith(".") and path.name.endswith(TEMPORARY)


def clear_temporaries(folder: Path, but: Path | None = None) -> None:
    """Remove below `folder` what killed processes left half-made; for those who hold its lock. `but` is left alone."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if but is None or Path(place, name) != but]
        for path in (Path(place, name) for name in (*folders, *files)):
            if is_temporary(path):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else _removed(path)


def _removed(path: Path) -> None:
    with contextlib.suppress(OSError):  # on a disk that cannot be written, a leftover is the smaller trouble
        path.unlink()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content`; a kill at any instant leaves the old file or the new one, never a part.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        _removed(beside)
        raise UserError(
            f"cannot write {path} ({error.strerror})", "make room or choose a writable folder with --out"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable (no effect where folders cannot be opened)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder_atomically(folder: Path, fill: Callable[[Path], None]) -> None:
    """Create `folder` by calling `fill` on a temporary sibling and renaming it; an existing folder is replaced.

    Raises:
        UserError: the parent cannot be written to, or the disk is full.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        old = folder.with_name(f".{folder.name}.old")
        if old.is_dir() and not folder.exists():
            old.rename(folder)  # a kill came between the two renames below
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=TEMPORARY, dir=folder.parent))
        try:
            fill(beside)
            umask = os.umask(0)
            os.umask(umask)
            beside.chmod(0o777 & ~umask)  # mkdtemp makes it private
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            beside.rename(folder)
            sync_folder(folder.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot write {folder} ({first_line(error)})", "make room or choose a writable folder"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=1, allow_nan=True, ensure_ascii=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """`json.loads` of somebody's text.

    Raises:
        ValueError: it is not JSON, is nested too deep, or holds halves of characters.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate could not be written anywhere
        return value
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no file {path}", "check the path") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})", "restore or remove the file") from error


def content_hash(parts: Iterable[bytes | str], digits: int = 16) -> str:
    """Hexadecimal BLAKE2 digest of the parts in order; the key of caches."""
    digest = hashlib.blake2b(digest_size=digits // 2)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
