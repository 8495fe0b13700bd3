"""What every method's tiny run gives at its fixed seed, kept in golden.json so that refactoring cannot change it unseen.

    python tests/golden.py [method ...]

makes the file anew, all of it or these methods' part, where a change of results is meant; say why in the commit.
"""

import json
import math
import os
import platform
import sys
import tempfile
from pathlib import Path

from rows import ROWS

FILE = Path(__file__).parent / "golden.json"
GOLDEN: dict[str, dict] = json.loads(FILE.read_text()) if FILE.exists() else {}
EQUAL, ELSEWHERE = 1e-6, 1e-2
"""Relative: on the machine that made the file, and where sums come in another order (measured: at most 4e-3, at AVX2)."""
CACHED_STAGES = ("teacher", "pretraining", "language model", "critic")
"""Trained once and cached: only the first run that needs one records it."""


def timeless_records(folder: Path) -> list[dict]:
    """Lines of every metrics.jsonl without what depends on the clock or on what the cache held."""
    files = sorted(folder.rglob("metrics.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key != "seconds"}
        for line in lines
        if line["stage"] not in CACHED_STAGES
    ]


def losses_of(folder: Path) -> dict[str, list[float]]:
    """First and last value of every loss of every stage, by "stage: loss"."""
    values: dict[str, list[float]] = {}
    for line in timeless_records(folder):
        for name, value in line.items():
            if isinstance(value, int | float) and name != "update":
                values.setdefault(f"{line['stage']}: {name}", []).append(value)
    return {name: [rounded(of[0]), rounded(of[-1])] for name, of in values.items()}


def metrics_of(result) -> dict[str, dict[str, float]]:
    """Metrics of every arm, by its name."""
    return {arm.name: {key: rounded(value) for key, value in arm.metrics.items()} for arm in result.arms}


def rounded(value: float) -> float:
    """To nine digits: what a reader can compare, and more than a float32 has."""
    return float(f"{value:.9g}") if math.isfinite(value) else value


def machine() -> dict[str, str]:
    """What the last digits depend on."""
    import torch

    from stillhouse.core.environment import processor

    return {"processor": processor(), "torch": torch.__version__, "python": platform.python_version()}


def golden_of(run) -> dict:
    """What is kept of a method's run."""
    return {"losses": losses_of(run.folder), "metrics": metrics_of(run.result), "machine": machine()}


def main(methods: list[str]) -> None:
    import torch

    import stillhouse

    torch.set_num_threads(1)
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["STILLHOUSE_CACHE"] = f"{scratch}/cache"
        for method in methods or ROWS:
            run = stillhouse.run(method, out=Path(scratch) / method, quiet=True, **ROWS[method])
            kept[method] = golden_of(run)
            FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
