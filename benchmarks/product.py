"""How the product feels, in numbers: how long commands and the local page let one wait, what a report weighs, what exports lose.

    python benchmarks/product.py                  # everything: about four minutes on two quiet cores
    python benchmarks/product.py --part page      # commands, page, reports or exports

Writes benchmarks/product_measured.json (the results folder holds papers' claims only). Every part may be run again by itself; the others' numbers are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillhouse.core.environment import environment
from stillhouse.core.files import read_json, write_json
from stillhouse.core.result import save_result

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "product_measured.json"
sys.path.insert(0, str(ROOT / "tests"))
RUNS = 1000
REPEATS = 9
LIMITS = {"command_seconds": 0.5, "page_seconds": 0.2, "report_bytes": 3_000_000}


def measure_commands() -> dict[str, Any]:
    """Wall-clock and processor seconds of commands that a user types to look around."""
    found = {}
    for words in (["--help"], ["list"], ["run", "--help"], ["--version"]):
        walls, cpus = [], []
        for _ in range(REPEATS):
            before, started = os.times(), time.perf_counter()
            subprocess.run([sys.executable, "-m", "stillhouse", *words], check=True, capture_output=True)
            walls.append(time.perf_counter() - started)
            after = os.times()
            cpus.append(after.children_user + after.children_system - before.children_user - before.children_system)
        found[" ".join(words)] = {
            "wall_seconds_median": statistics.median(walls),
            "wall_seconds_least": min(walls),
            "cpu_seconds_median": statistics.median(cpus),
        }
    return found


def generated_runs(folder: Path, count: int) -> None:
    """Run folders as they come: most finished, some stopped, some damaged."""
    from made_up_runs import made_up_result

    result = made_up_result()
    for i in range(count):
        place = folder / f"dmd2-{i:04}"
        write_json(
            place / "config.json",
            {"method": "dmd2", "config": {"data": "digits", "seed": i % 5, "student_updates": 300}},
        )
        (place / "metrics.jsonl").write_text(
            "".join(f'{{"stage": "student", "update": {u}, "seconds": {u}.5, "loss": 1.0}}\n' for u in range(200))
        )
        if i % 10 == 9:
            continue
        save_result(dataclasses.replace(result, summary=f"Run {i}. {result.summary}"), place / "result.json")
        if i % 50 == 7:
            (place / "result.json").write_text("{")


def measure_page() -> dict[str, Any]:
    """Seconds until the last byte of a page over `RUNS` runs: the first request after the start, and later ones."""
    with tempfile.TemporaryDirectory() as scratch:
        generated_runs(Path(scratch), RUNS)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        command = [sys.executable, "-m", "stillhouse", "serve", scratch, "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
            try:
                assert server.stdout
                server.stdout.readline()
                _wait_for(port)
                found: dict[str, Any] = {"runs": RUNS}
                for name, path in (
                    ("list, first request", "/"),
                    ("list", "/"),
                    ("list, last page", "/?page=20"),
                    ("list, filtered by text", "/?text=dmd2-09"),
                    ("list, broken ones", "/?state=broken"),
                    ("one run", "/run/dmd2-0001"),
                ):
                    repeats = 1 if "first" in name else REPEATS
                    before = _cpu_seconds(server.pid)
                    times = sorted(_ask(port, path) for _ in range(repeats))
                    found[name] = {
                        "seconds_median": statistics.median(times),
                        "seconds_most": times[-1],
                        "server_cpu_seconds": (_cpu_seconds(server.pid) - before) / repeats,
                    }
                return found
            finally:
                server.terminate()


def _cpu_seconds(process: int) -> float:
    """Processor time of a process so far: what a busy machine does not stretch."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait_for(port: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def _ask(port: int, path: str) -> float:
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 200, (path, answer.status)
    return time.perf_counter() - started


def measure_reports() -> dict[str, Any]:
    """Bytes of a full report and of a comparison of eight runs."""
    from made_up_runs import made_up_run
    from stillhouse.reporting.comparison import compare_any
    from stillhouse.reporting.report import write_report

    with tempfile.TemporaryDirectory() as scratch:
        folders = [made_up_run(Path(scratch) / f"run-{i}", seed=i).folder for i in range(8)]
        from stillhouse.core.run import Run

        with Run.open(folders[0], quiet=True) as run:
            report = write_report(run, "DMD2").stat().st_size
        return {"report_bytes": report, "comparison_of_8_runs_bytes": len(compare_any(folders).encode())}


def measure_exports() -> dict[str, Any]:
    """What every method's model loses as ONNX, and as int8: tiny runs, real inputs."""
    import stillhouse
    from rows import ROWS
    from stillhouse.catalog import load_method
    from stillhouse.exporting.export import export

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for method, options in ROWS.items():
            if not hasattr(load_method(method), "portable"):
                found[method] = "its result is not a network"
                continue
            run = stillhouse.run(method, out=Path(scratch) / method, quiet=True, **options)
            checks = [c for how in ("dynamic", "static") for c in export(run.folder, "onnx", int8=how).checks]  # type: ignore[arg-type]
            found[method] = {
                c.name: {
                    "difference_share": c.share,
                    "bytes": c.size_bytes,
                    "item_seconds": c.item_seconds,
                    "metrics": c.metrics,
                }
                for c in checks
            }
    return found


PARTS: dict[str, tuple[Callable[[], dict[str, Any]], float]] = {
    "commands": (measure_commands, 15),
    "page": (measure_page, 25),
    "reports": (measure_reports, 15),
    "exports": (measure_exports, 240),
}


def main() -> None:
    """Measure the parts that are asked for, keep the others, and say how they stand against the limits."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--part", choices=PARTS, action="append")
    wanted = parser.parse_args().part or list(PARTS)
    print(
        f"product: {', '.join(wanted)}, about {sum(PARTS[name][1] for name in wanted):.0f} s on two quiet cores",
        flush=True,
    )
    measured = read_json(RESULTS) if RESULTS.exists() else {}
    for name in wanted:
        measured[name] = {"measured": PARTS[name][0](), "load_average": os.getloadavg()[0]}
        measured["environment"], measured["limits"] = environment(), LIMITS
        write_json(RESULTS, measured)
        print(json.dumps({name: measured[name]}, indent=1), flush=True)


if __name__ == "__main__":
    main()
