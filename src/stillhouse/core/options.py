"""A method's config as plain values and back, as config.json holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import cattrs
from cattrs.strategies import configure_union_passthrough

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import read_json

Config = TypeVar("Config")

_converter = cattrs.Converter(forbid_extra_keys=True)
configure_union_passthrough(str | bool | int | float | None, _converter)


def to_plain(config: Any) -> dict[str, Any]:
    """The config as JSON values."""
    plain: dict[str, Any] = _converter.unstructure(config)
    return plain


def structured(options: dict[str, Any], kind: type[Config]) -> Config:
    """The config of these values; an exception of cattrs where one of them is wrong."""
    return _converter.structure(options, kind)


def from_plain(options: dict[str, Any], kind: type[Config], folder: Path) -> Config:
    """The config that `to_plain` was given.

    Raises:
        UserError: it is of another version; `folder` is the run to name.
    """
    try:
        return structured(options, kind)
    except Exception as error:
        raise UserError(
            f"the config of {folder} does not fit this version of stillhouse",
            "resume with the version that started the run (environment.json names it)",
        ) from error


def read_options(run: Path, method: str, kind: type[Config]) -> Config:
    """The config of a run folder.

    Raises:
        UserError: not a run folder, a run of another method, or of another version.
    """
    record = read_json(run / "config.json")
    found = record.get("method") if isinstance(record, dict) else None
    require(found == method, f"{run} is not a {method} run", "name another folder")
    return from_plain(record["config"], kind, run)
