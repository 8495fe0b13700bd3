"""Every gradient method for a few steps in bfloat16 on a GPU, beside the same steps in float32 on the CPU: `make gpu-check`.

python benchmarks/gpu_check.py                              # all methods on the first GPU; ends in ten minutes
python benchmarks/gpu_check.py --method dmd2 --device cpu   # the same check with bfloat16 on the CPU, to try the check itself

A line a method: steps a second, peak memory, share of the card's multiplications used (MFU), and the largest difference of a
loss. Exit code 0 where all losses agree, 1 where one does not or a method fails, and 2 where there is no GPU: a check that could
not be made is not a check that was passed.

The tiny settings of tests/rows.py are used, so MFU says little of real work; `--wide` takes the laptop presets. Diffusion methods
have bfloat16 as an option and use it; the steps of the others run under torch's autocast. Random numbers are drawn on the CPU
where that can be done, but dropout on a GPU draws others: losses are compared within LOSS_SHARE of their size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from rows import ROWS

LOSS_SHARE, LOSS_LEAST = 0.1, 0.05
"""A loss may differ by this share of its size, and by so much where it is small: bfloat16 has three digits, and updates add up."""
MINUTES = 10.0
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "A10": 125e12, "4090": 165e12, "V100": 125e12, "T4": 65e12}  # fmt: skip
"""Dense bfloat16 (float16 on the last two) operations a second that the makers state, by a part of the card's name."""


@dataclasses.dataclass
class Seen:
    """What the stages of a run did."""

    steps: int = 0
    seconds: float = 0.0
    operations: float = 0.0
    """Of all steps, from counted ones: the second step of every stage."""


def watched(fit: Callable[..., Any], device: str, cast: bool, seen: Seen) -> Callable[..., Any]:
    """`fit` whose steps are timed, counted, and cast to bfloat16 if wanted."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def fitted(step: Callable[[int], Any], state: Any, updates: int, *rest: Any, **named: Any) -> Any:
        taken = {"count": 0, "operations": 0.0}

        def one(i: int) -> Any:
            counting = FlopCounterMode(display=False) if taken["count"] == 1 else None
            with torch.autocast(device, torch.bfloat16) if cast else nullcontext(), counting or nullcontext():
                began = time.perf_counter()
                losses = step(i)
                if device == "cuda":
                    torch.cuda.synchronize()
            taken["count"] += 1
            if counting:
                taken["operations"] = float(counting.get_total_flops())
            elif taken["count"] > 2:  # the first warms up, the second is counted
                seen.steps += 1
                seen.seconds += time.perf_counter() - began
                seen.operations += taken["operations"]
            return losses

        return fit(one, state, updates, *rest, **named)

    return fitted


def child(method: str, device: str, precision: str, wide: bool, out: Path) -> None:
    """Run a method and write down its losses and costs."""
    import torch

    import stillhouse
    from stillhouse.catalog import load_method
    from stillhouse.core import training

    module = load_method(method)
    options = {} if wide else dict(ROWS[method])
    own = "precision" in {field.name for field in dataclasses.fields(module.Config)}
    if own:
        options["precision"] = precision
    seen, original = Seen(), training.fit
    fit = watched(original, device, precision == "bfloat16" and not own, seen)
    for loaded in list(sys.modules.values()):
        if getattr(loaded, "fit", None) is original:
            loaded.fit = fit
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STILLHOUSE_CACHE"] = f"{folder}/cache"
        run = stillhouse.run(method, out=Path(folder) / "run", quiet=True, **options)
        records = run.records()
    losses: dict[str, float] = {}
    for record in records:
        for name, value in record.items():
            if name not in ("stage", "update", "seconds") and isinstance(value, int | float):
                losses.setdefault(f"{record['stage']}: {name}", value)
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    out.write_text(json.dumps({"losses": losses, "memory": memory, **dataclasses.asdict(seen)}))


def in_a_process(method: str, device: str, precision: str, wide: bool, seconds: float) -> dict[str, Any] | str:
    """What the child wrote, or the last line that it said."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "told.json"
        command = [
            sys.executable,
            __file__,
            "--child",
            method,
            "--device",
            device,
            "--precision",
            precision,
            "--out",
            str(out),
        ]
        environment = dict(os.environ, HF_HUB_OFFLINE="1")
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        try:
            done = subprocess.run(
                command + ["--wide"] * wide,
                capture_output=True,
                text=True,
                env=environment,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"not done in {seconds:.0f} s"
        if not out.exists():
            return (done.stderr.strip().splitlines() or ["ended without a word"])[-1][:300]
        return dict(json.loads(out.read_text()))


def largest_difference(one: Mapping[str, float], two: Mapping[str, float]) -> tuple[float, str]:
    """By how much the first losses of the stages differ, in units of what is allowed, and which does most."""
    shared = one.keys() & two.keys()
    parts = {name: abs(one[name] - two[name]) / (LOSS_LEAST + LOSS_SHARE * abs(one[name])) for name in shared}
    name = max(parts, key=lambda name: parts[name], default="")
    return (parts[name], name) if name else (float("inf"), "no loss in common")


def peak_of(card: str) -> float | None:
    """Operations a second that the card's maker states."""
    return next((peak for part, peak in PEAKS.items() if part in card), None)


def line(method: str, plain: dict[str, Any] | str, tried: dict[str, Any] | str, peak: float | None) -> tuple[str, bool]:
    """A method's line, and whether it passed."""
    for what, told in (("float32 on the CPU", plain), ("bfloat16", tried)):
        if isinstance(told, str):
            return f"{method:22} FAILED in {what}: {told}", False
    assert isinstance(plain, dict) and isinstance(tried, dict)
    difference, name = largest_difference(plain["losses"], tried["losses"])
    speed = tried["steps"] / tried["seconds"] if tried["seconds"] else 0.0
    used = tried["operations"] / tried["seconds"] if tried["seconds"] else 0.0
    share = f"MFU {100 * used / peak:.3f} %" if peak else f"{used / 1e9:.2f} GFLOP/s"
    place = f"peak memory {tried['memory'] / 1e6:,.0f} MB" if tried["memory"] else "trains on the CPU"
    passed = difference <= 1
    words = f"{speed:8.1f} steps/s, {place}, {share}, losses {'agree' if passed else 'DIFFER'} ({difference:.2f} of what is allowed: {name})"  # fmt: skip
    return f"{method:22} {words}", passed


def check(methods: list[str], device: str, wide: bool, minutes: float) -> int:
    """Check the methods one after the other and return the exit code."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: there is no GPU that this torch can use, so nothing was checked", file=sys.stderr)
        return 2
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{card}, torch {torch.__version__}; {len(methods)} methods in at most {minutes:g} minutes", flush=True)
    began, failed = time.monotonic(), 0
    for method in methods:
        left = 60 * minutes - (time.monotonic() - began)
        if left < 20:
            print(f"{method:22} not checked: the {minutes:g} minutes are over")
            failed += 1
            continue
        plain = in_a_process(method, "cpu", "float32", wide, left)
        tried = in_a_process(method, device, "bfloat16", wide, max(20.0, 60 * minutes - (time.monotonic() - began)))
        text, passed = line(method, plain, tried, peak_of(card))
        failed += not passed
        print(text, flush=True)
    return int(failed > 0)


def main() -> int:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=ROWS, action="append", help="only these")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--wide", action="store_true", help="the laptop presets, not the tiny settings of the tests")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--child", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.device, given.precision, given.wide, given.out)
        return 0
    return check(given.method or list(ROWS), given.device, given.wide, given.minutes)


if __name__ == "__main__":
    sys.exit(main())
