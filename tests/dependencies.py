"""What stillhouse is built on: every installed dependency's licence, and known vulnerabilities where they can be looked up.

    python tests/dependencies.py             # part of `make check`: fails on a licence, only names vulnerabilities
    python tests/dependencies.py --strict    # fails on a vulnerability too

A licence fails that forbids a use (non-commercial, source-available) or demands the whole program's source (GPL, AGPL), and so
does none at all. Vulnerabilities come from pip-audit; without it or without a network that is one line, and no failure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "stillhouse"
EXTRAS = ("all", "dev")
AUDIT_SECONDS = 60
OF_THE_DRIVER = ("nvidia-", "cuda-")
"""Libraries that a CUDA build of torch brings: whoever has such a GPU has agreed to their terms already."""
FORBIDDEN = re.compile(
    r"non-?commercial|\bcc-by-nc|source[- ]available|business source|\bbusl|\bsspl|server side public|elastic license|commons clause|"
    r"proprietary|all rights reserved|\bagpl|affero|(?<!lesser )(?<!library or lesser )general public license|(?<![a-z])gpl",
    re.I,
)
FREE = re.compile(r"\bmit\b|bsd|apache|\bisc\b|\bpsf|python software|mozilla|\bmpl|zlib|unlicense|public domain|\b0bsd|cc0|lgpl|lesser|boost|bsl-1|hpnd|cnri", re.I)  # fmt: skip
"""A package may be under one of several licences; one that is free is enough."""


def dependencies(root: str = ROOT, extras: tuple[str, ...] = EXTRAS) -> list[metadata.Distribution]:
    """All installed packages that `root` needs, directly or not."""
    found: dict[str, metadata.Distribution] = {}
    asked: set[tuple[str, str]] = set()
    todo = [(root, extra) for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        key = (canonicalize_name(name), extra)
        if key in asked:
            continue
        asked.add(key)
        try:
            one = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another system or Python
        found[key[0]] = one
        for text in one.requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                todo += [(need.name, more) for more in ("", *need.extras)]
    found.pop(canonicalize_name(root), None)
    return [found[name] for name in sorted(found)]


def licence(package: metadata.Distribution) -> str:
    """What a package says its licence is, in a line."""
    told = package.metadata
    classified = [c.split(" :: ")[-1] for c in told.get_all("Classifier") or () if c.startswith("License ::")]
    written = (told.get("License") or "").strip().splitlines()[:1]
    return told.get("License-Expression") or "; ".join(classified) or "".join(written)[:100]


def wrong(text: str) -> str:
    """Why a licence will not do; empty where it will."""
    if not text or text.lower() in ("unknown", "other"):
        return "says no licence"
    choices = re.split(r";|\bor\b", text, flags=re.I)
    if any(FREE.search(choice) and not FORBIDDEN.search(choice) for choice in choices):
        return ""
    return f"is under {text!r}" if FORBIDDEN.search(text) else f"has a licence that nobody has looked at: {text!r}"


def vulnerabilities() -> tuple[list[str], str]:
    """Known vulnerabilities, a line each; and why none could be looked up, where that is so."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--format", "json", "--progress-spinner", "off", "--timeout", "5"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return [], f"no answer in {AUDIT_SECONDS} s"
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or ["no answer"])[-1][:160]
    looked_up = [package for package in packages if "skip_reason" not in package]
    if len(looked_up) < len(packages) / 2:
        return [], f"the index that answers knows {len(looked_up)} of {len(packages)} packages"
    return [f"{p['name']} {p['version']}: {v['id']}" for p in looked_up for v in p.get("vulns", ())], ""


def main() -> int:
    """Look at everything and return the exit code."""
    packages = [one for one in dependencies() if not canonicalize_name(one.name).startswith(OF_THE_DRIVER)]
    bad = [f"{package.name} {reason}" for package in packages if (reason := wrong(licence(package)))]
    print(f"licences: {len(packages)} packages, {len(bad)} to mend", *bad, sep="\n  ")
    known, why_not = vulnerabilities()
    print(f"vulnerabilities: skipped ({why_not})" if why_not else f"vulnerabilities: {len(known)} known", *known, sep="\n  ")  # fmt: skip
    return 1 if bad or (known and "--strict" in sys.argv) else 0


if __name__ == "__main__":
    sys.exit(main())
