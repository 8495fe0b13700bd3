"""What DMD2 costs and survives: seconds an image, memory and seconds an update, kill -9 at random moments."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from dmd2_arms import BENCH, SEEDS, TEACHERS
from stillhouse.core.run import Run
from stillhouse.diffusion.evaluation import latencies
from stillhouse.diffusion.task import ImageTask, prepare, teacher_samplers

FOLDER = Path(__file__).resolve().parent

# ---- speed


def speed_table(data: str) -> list[dict[str, dict[str, float]]]:
    """Seconds an image of the teacher's 35 passes and a student's one, in turn in one process, for each seed.

    A pass costs what it costs whatever the weights are, so a teacher's network after two updates stands for both.
    """
    return [BENCH.piece(speed_key(data, seed), lambda seed=seed: measure_speed(data, seed)) for seed in SEEDS[data]]


def speed_key(data: str, seed: int) -> dict[str, Any]:
    """What decides a timing, beside the machine."""
    return {"part": "speed", "data": data, "seed": seed, "setting": repr(TEACHERS[data])}


def measure_speed(data: str, seed: int) -> dict[str, dict[str, float]]:
    """Latencies of one seed's teacher, in full and with one pass."""
    options = {name: value for name, value in TEACHERS[data].items() if name not in ("batch", "cooldown", "ema_decay")}
    task = ImageTask(**{**options, "teacher_updates": 2}, seed=seed)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as place, Run.create("speed", {}, out=Path(place) / "run", quiet=True) as run:
        setting = prepare(task, run)
    full, _, one = teacher_samplers(task, setting.teacher)
    return {
        name: latencies(sampler, setting.conditions, setting.device)
        for name, sampler in (("teacher", full), ("student", one))
    }


# ---- memory and seconds an update


MEMORY = [
    {"part": "memory", "batch": batch, "width": width}
    for batch, width in ((32, 16), (64, 16), (128, 16), (256, 16), (64, 32), (64, 64), (64, 128))
]


def memory_table() -> list[dict[str, float]]:
    """Peak memory and seconds an update of a step with GAN, as batch and width grow; each in a process of its own."""
    return [BENCH.piece(key, lambda key=key: measure_memory(key["batch"], key["width"])) for key in MEMORY]


def measure_memory(batch: int, width: int) -> dict[str, float]:
    """Run a few steps in a child process and read its peak memory."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "dmd2_memory.py"), str(batch), str(width)],
        capture_output=True,
        text=True,
        check=True,
    )
    names = ("before_mb", "peak_mb", "seconds_a_step", "parameters")
    return {"batch": batch, "width": width, **dict(zip(names, map(float, done.stdout.split()), strict=True))}


# ---- kills

TINY = {
    "data": "digits",
    "widths": (8, 16),
    "teacher_updates": 40,
    "teacher_batch": 16,
    "teacher_steps": 4,
    "batch": 8,
    "samples": 200,
    "student_updates": 40,
    "updates_ratio": 2,
}


def kill_trials(count: int = 20) -> dict[str, int]:
    """kill -9 at `count` random moments of tiny runs (teacher and student stages, checkpoint writes included)."""
    flags = [
        word
        for name, value in TINY.items()
        for word in (f"--{name.replace('_', '-')}", *(map(str, value) if isinstance(value, tuple) else [str(value)]))
    ]
    place = BENCH.pieces / "kills"
    shutil.rmtree(place, ignore_errors=True)
    chance, kills, equal, rounds = random.Random(0), 0, 0, 0
    base = [sys.executable, "-m", "stillhouse"]
    straight = place / "straight"
    environment = own_cache(place / "cache")
    subprocess.run([*base, "run", "dmd2", "--quiet", *flags, "--out", str(straight)], check=True, env=environment)
    truth = load_file(straight / "model" / "diffusion_pytorch_model.safetensors")
    stages: dict[str, int] = {}
    while kills < count:
        shutil.rmtree(place / "cache" / "teachers", ignore_errors=True)
        folder = place / f"run{rounds}"
        words = [*base, "run", "dmd2", "--quiet", *flags, "--out", str(folder), "--checkpoint-seconds", "0"]
        for _ in range(10):
            process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
            wait_for_new_checkpoint(process, folder)
            time.sleep(chance.uniform(0, 0.6))
            if process.poll() is not None or kills == count:
                process.wait()
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            last = max(folder.glob("checkpoint/*/*"), key=lambda path: path.stat().st_mtime_ns)
            stages[last.parent.name] = stages.get(last.parent.name, 0) + 1
            words = [*base, "resume", str(folder), "--quiet", "--checkpoint-seconds", "0"]
        subprocess.run([*base, "resume", str(folder), "--quiet"], check=True, env=environment)
        made = load_file(folder / "model" / "diffusion_pytorch_model.safetensors")
        equal += all(truth[name].equal(made[name]) for name in truth)
        rounds += 1
    return {"kills": kills, "runs": rounds, "bit_equal_runs": equal, **{f"in_{k}": v for k, v in stages.items()}}


def own_cache(folder: Path) -> dict[str, str]:
    """Environment with a cache that starts with the shared feature networks and no teacher."""
    import os

    from stillhouse.core.cache import cache_root

    if (cache_root() / "features").exists():
        shutil.copytree(cache_root() / "features", folder / "features", dirs_exist_ok=True)
    return {**os.environ, "STILLHOUSE_CACHE": str(folder)}


def wait_for_new_checkpoint(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until something new is saved, so that kills fall into training and not into imports."""

    def newest() -> int:
        return max((path.stat().st_mtime_ns for path in folder.glob("checkpoint/*/*.safetensors")), default=0)

    before = newest()
    while process.poll() is None and newest() == before:
        time.sleep(0.005)
