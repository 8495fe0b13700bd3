"""`stillhouse doctor`: versions, devices, caches, disk, and what each extra lacks."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from stillhouse.core.cache import cache_root
from stillhouse.core.environment import processor
from stillhouse.core.errors import UserError

PACKAGE = "stillhouse"
LEAST_FREE = 2e9
"""Bytes of free disk below which a run may not end."""


@dataclass(frozen=True)
class Finding:
    """Something wrong, and what to do about it."""

    what: str
    mend: str


def examine() -> dict[str, Any]:
    """Everything that doctor says, as JSON values."""
    extras = {name: lacking(name) for name in extra_names()}
    report: dict[str, Any] = {
        "versions": versions(),
        "machine": machine(),
        "devices": devices(),
        "cache": cache(),
        "data": data(),
        "disk": {place: free_bytes(Path(path)) for place, path in _places().items()},
        "extras": extras,
    }
    report["findings"] = [asdict(finding) for finding in findings(report)]
    return report


def print_examination(*, as_json: bool) -> None:
    """Print what was found.

    Raises:
        UserError: something keeps every run from working.
    """
    report = examine()
    print(json.dumps(report, indent=1) if as_json else "\n".join(lines(report)))
    if report["findings"]:
        first = report["findings"][0]
        raise UserError(first["what"], first["mend"])


def lines(report: dict[str, Any]) -> list[str]:
    """The report in words."""
    machine, cache, data = report["machine"], report["cache"], report["data"]
    return [
        "versions  " + ", ".join(f"{name} {version or 'missing'}" for name, version in report["versions"].items()),
        f"machine   {machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 1e9:.1f} GB of memory, {machine['system']}",
        "devices   " + "; ".join(report["devices"]),
        f"cache     {cache['folder']}: {cache['bytes'] / 1e6:,.1f} MB, "
        + (", ".join(f"{count} {kind}" for kind, count in cache["kept"].items()) or "empty")
        + ("" if cache["writable"] else "; not writable"),
        f"data      {data['folder'] or '$STILLHOUSE_DATA is not set'}"
        + (
            f": {', '.join(data['sets']) or 'empty'}"
            if data["folder"]
            else " (only data sets with a public home need it)"
        ),
        "disk      " + ", ".join(f"{free / 1e9:.1f} GB free for {place}" for place, free in report["disk"].items()),
        *(
            f"extra     {name}: {'complete' if not lacks else 'lacks ' + ', '.join(lacks)}"
            + (f"; pip install 'stillhouse[{name}]'" if lacks else "")
            for name, lacks in report["extras"].items()
        ),
    ]


def versions() -> dict[str, str | None]:
    """Python and the packages that stillhouse itself needs."""
    named = [requirement.name for requirement in requirements("")]
    return {
        "python": platform.python_version(),
        PACKAGE: installed(PACKAGE),
        **{name: installed(name) for name in named},
    }


def installed(package: str) -> str | None:
    """Its version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def extra_names() -> list[str]:
    """The extras that users choose from, in the order of their names."""
    return sorted(set(metadata.metadata(PACKAGE).get_all("Provides-Extra") or []) - {"dev"})


def requirements(extra: str) -> Iterator[Requirement]:
    """What an extra needs beside the base; the base's own needs for "". Extras inside extras are opened."""
    for text in metadata.requires(PACKAGE) or []:
        requirement = Requirement(text)
        marked = requirement.marker is not None and "extra" in str(requirement.marker)
        if marked != bool(extra) or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        if requirement.name == PACKAGE:
            for inner in requirement.extras:
                yield from requirements(inner)
        else:
            yield requirement


def lacking(extra: str) -> list[str]:
    """What an extra needs and is missing, or has another version than it needs."""
    found = []
    for requirement in {str(r): r for r in requirements(extra)}.values():
        version = installed(requirement.name)
        if version is None:
            found.append(requirement.name)
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name}{requirement.specifier} (found {version})")
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
    }


def memory_bytes() -> int:
    """Memory of the machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def devices() -> list[str]:
    """What networks can be computed on, in words."""
    if installed("torch") is None:
        return ["torch is missing"]
    import torch

    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    found = [f"cpu ({torch.get_num_threads()} threads)", *(f"{g.name} ({g.total_memory / 1e9:.0f} GB)" for g in gpus)]
    if torch.backends.mps.is_available():
        found.append("Apple GPU (stillhouse does not use it)")
    return found


def cache() -> dict[str, Any]:
    """What is kept of earlier runs: teachers, feature networks, metrics."""
    root = cache_root()
    kept = Counter(folder.parent.name for folder in root.glob("*/*") if folder.is_dir() and folder.name[0] != ".")
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) if root.is_dir() else 0
    return {"folder": str(root), "bytes": size, "kept": dict(sorted(kept.items())), "writable": writable(root)}


def writable(folder: Path) -> bool:
    """Whether files can be made in the folder, or where it would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def data() -> dict[str, Any]:
    """What lies below $STILLHOUSE_DATA."""
    root = os.environ.get("STILLHOUSE_DATA")
    if not root or not Path(root).is_dir():
        return {"folder": root, "sets": []}
    return {"folder": root, "sets": sorted(entry.name for entry in Path(root).iterdir() if entry.name[0] != ".")}


def _places() -> dict[str, str]:
    return {"runs": str(Path.cwd()), "the cache": str(cache_root()), "temporary files": tempfile.gettempdir()}


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that a path is on, or would be on."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def findings(report: dict[str, Any]) -> list[Finding]:
    """What keeps runs from working."""
    found = [Finding(f"the base installation lacks {what}", "pip install --upgrade stillhouse") for what in lacking("")]
    if not report["cache"]["writable"]:
        found.append(
            Finding(
                f"the cache {report['cache']['folder']} cannot be written to",
                "set $STILLHOUSE_CACHE to a writable folder",
            )
        )
    given = report["data"]["folder"]
    if given and not Path(given).is_dir():
        found.append(
            Finding(f"$STILLHOUSE_DATA names {given}, which is not a folder", "make it, or unset the variable")
        )
    for place, free in report["disk"].items():
        if free < LEAST_FREE:
            found.append(Finding(f"only {free / 1e9:.1f} GB are free for {place}", "make room"))
    return found
