"""The checks themselves: the GPU check on a CPU, and what licences are let through."""

import subprocess
import sys
from pathlib import Path

import pytest

import dependencies

ROOT = Path(__file__).resolve().parent.parent
GPU_CHECK = ROOT / "benchmarks" / "gpu_check.py"


def gpu_check(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(GPU_CHECK), *arguments], capture_output=True, text=True, check=False)


def test_the_gpu_check_says_clearly_that_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = gpu_check()
    assert done.returncode == 2 and "no GPU" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_gpu_check_compares_bfloat16_with_float32_on_a_cpu():
    done = gpu_check("--device", "cpu", "--method", "similar_tasks")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "steps/s" in done.stdout and "losses agree" in done.stdout and "GFLOP/s" in done.stdout


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("MIT", ""),
        ("BSD-3-Clause AND 0BSD AND MIT", ""),
        ("GPL-3.0-only OR MIT", ""),
        ("Public Domain; BSD License; GNU General Public License (GPL)", ""),
        ("GNU Lesser General Public License v3 (LGPLv3)", ""),
        ("GPL-3.0-only", "is under"),
        ("AGPL-3.0", "is under"),
        ("Business Source License 1.1", "is under"),
        ("CC-BY-NC-4.0", "is under"),
        ("Apache-2.0 with Commons Clause", "is under"),
        ("Proprietary", "is under"),
        ("", "says no licence"),
        ("Beerware of my own", "nobody has looked at"),
    ],
)
def test_licences(text, reason):
    assert reason in dependencies.wrong(text) and bool(dependencies.wrong(text)) == bool(reason)


def test_the_tree_reaches_what_is_needed_indirectly():
    names = {package.name.lower() for package in dependencies.dependencies()}
    assert {"torch", "sympy", "mypy"} <= names and "stillhouse" not in names
