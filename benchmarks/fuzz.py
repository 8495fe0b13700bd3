"""A million hostile files: every reader is given spoilt files, and may answer or raise `UserError`, nothing else.

python benchmarks/fuzz.py                       # all readers; resumable, a piece a reader
python benchmarks/fuzz.py --reader PubTator --inputs 100000 --seconds 60 --seed 1
python benchmarks/fuzz.py --guided 60           # coverage-guided by atheris, where it is installed: so many seconds a reader

Good files are spoilt by one to four random changes (tests/fuzzing.py); every input follows from the seed and its number.
What a reader may take is --seconds of processor time or --inputs files, whichever comes first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
from fuzzing import READERS, Reader, outcome, shared_memory, spoilt
from stillhouse.core.environment import commit, environment
from stillhouse.core.evidence import Bench, print_estimate
from stillhouse.core.files import write_json

HERE = Path(__file__).resolve().parent
MOST_MEMORY = 12 << 30
"""Bytes of address space: a reader that asks for more fails as it would on a small machine."""
GUIDED = ("PubTator", "BioC JSON", "TU zip, members", "summaries, body")
"""Readers whose parsing is most of all our own code, which atheris sees into."""
KEPT = 5
"""Inputs of a kind of finding that are written down."""


def fuzzed(reader: Reader, inputs: int, seconds: float, seed: int) -> dict[str, Any]:
    """How often the reader answered, refused, and did neither."""
    draw = random.Random(f"{reader.name} {seed}")
    seeds = reader.seeds()
    counts: Counter[str] = Counter()
    findings: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
        path = Path(folder) / f"x{reader.ending}"
        good = warmed(reader, path, seeds)
        began, number, slowest = time.process_time(), 0, 0.0
        for number in range(1, inputs + 1):
            content = reader.packed(spoilt(draw.choice(seeds), draw.choice(seeds), draw, reader.json))
            at = time.process_time()
            kind, wrong = outcome(reader, path, content)
            slowest = max(slowest, time.process_time() - at)
            counts[kind] += 1
            if wrong and len(findings.setdefault(wrong, [])) < KEPT:
                findings[wrong].append(content.hex())
            if number % 50 == 0 and time.process_time() - began > seconds:
                break
    return {
        "good files": len(seeds),
        "good files answered": good,
        "inputs": number,
        "answered": counts["answer"],
        "refused": counts["refused"],
        "wrong": counts["wrong"],
        "findings": findings,
        "seconds": round(time.process_time() - began, 2),
        "slowest input seconds": round(slowest, 3),
    }


def warmed(reader: Reader, path: Path, seeds: list[bytes]) -> int:
    """How many of the good files are read; what a reader imports is then there, and no part of its time."""
    kinds = [outcome(reader, path, reader.packed(content), seconds=600)[0] for content in seeds]
    return kinds.count("answer")


def guided(reader: Reader, seconds: int) -> dict[str, Any]:
    """The same, but atheris chooses the inputs by the code that they reach; None where it is not installed."""
    with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, content in enumerate(reader.seeds()):
            (corpus / str(number)).write_bytes(content)
        command = [sys.executable, str(HERE / "fuzz_guided.py"), reader.name, str(seconds), str(corpus)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        told = Path(folder) / "told.json"
        if not told.exists():
            return {"failed": done.stderr[-600:]}
        return dict(json.loads(told.read_text()))


def main() -> None:
    """Fuzz the readers that are not on disk yet and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [reader.name for reader in READERS]
    parser.add_argument("--reader", choices=names, action="append", help="only these")
    parser.add_argument("--inputs", type=int, default=150_000, help="at most this many a reader")
    parser.add_argument("--seconds", type=float, default=9, help="processor seconds a reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further reader after so many")
    parser.add_argument("--guided", type=int, default=0, help="seconds a reader with atheris, beside the others")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    bench, told = Bench("fuzz", HERE), {}
    readers = [reader for reader in READERS if not given.reader or reader.name in given.reader]
    print_estimate("hostile files", (given.seconds + given.guided) * len(readers), len(readers))
    started = time.monotonic()
    for reader in readers:
        key = {"reader": reader.name, "inputs": given.inputs, "seconds": given.seconds, "seed": given.seed}
        if time.monotonic() - started > 60 * given.minutes and not bench.has(key):
            print(f"{reader.name}: not begun, the minutes are over")
            continue
        told[reader.name] = bench.piece(key, lambda r=reader: fuzzed(r, given.inputs, given.seconds, given.seed))
        if given.guided and reader.name in GUIDED:
            key = {"guided": reader.name, "seconds": given.guided}
            told[f"{reader.name}, guided"] = bench.piece(key, lambda r=reader: guided(r, given.guided))
        one = told[reader.name]
        print(
            f"{reader.name}: {one['good files answered']} of {one['good files']} good files, {one['inputs']:,} inputs, {one['answered']:,} answered, {one['refused']:,} refused, {one['wrong']:,} wrong, {one['seconds']} s, slowest {one['slowest input seconds']} s",
            flush=True,
        )
        for finding, examples in list(one["findings"].items())[:8]:
            print(f"    ! {finding}  ({len(examples)} kept)")
    if not given.reader:
        print(written(bench, told, given.seed))


def written(bench: Bench, told: dict[str, Any], seed: int) -> Path:
    """The result file."""
    whole = {
        "measured": "hostile files",
        "inputs": sum(one.get("inputs", 0) for one in told.values()),
        "wrong": sum(one.get("wrong", 0) for one in told.values()),
        "processor minutes": round(sum(one.get("seconds", 0) for one in told.values()) / 60, 1),
        "seed": seed,
        "commit": commit(),
        "environment": environment(),
        "readers": told,
    }
    write_json(bench.results_file, whole)
    return bench.results_file


if __name__ == "__main__":
    main()
