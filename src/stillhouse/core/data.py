"""Finding data that has a public home but is not carried by an installed package."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stillhouse.core.errors import UserError


@dataclass(frozen=True)
class PublicFile:
    """A file that a user can fetch: where it belongs below $STILLHOUSE_DATA, and how to get it."""

    path: str
    """Relative to $STILLHOUSE_DATA, e.g. "fashion_mnist/train-images-idx3-ubyte.gz"."""
    home: str
    """Where it comes from, in words a reader can follow."""
    sha256: str = ""


def find_public_file(file: PublicFile) -> Path:
    """Path of `file` below $STILLHOUSE_DATA.

    Raises:
        UserError: the variable is not set or the file is not there; says what to fetch from where.
    """
    root = os.environ.get("STILLHOUSE_DATA")
    checksum = f" (sha256 {file.sha256})" if file.sha256 else ""
    mend = f"fetch it from {file.home}{checksum} to $STILLHOUSE_DATA/{file.path}"
    if not root:
        raise UserError(f"$STILLHOUSE_DATA is not set, so {file.path} cannot be found", mend)
    path = Path(root) / file.path
    if not path.exists():
        raise UserError(f"no file {path}", mend)
    return path
