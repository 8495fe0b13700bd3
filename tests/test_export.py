"""Exports: parity is refused where it fails, files run without torch, int8 is told, bad requests are one line."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from made_up_runs import made_up_run, unfinished_run
from stillhouse.core.errors import UserError
from stillhouse.core.onnx_files import run_without_torch, write_int8, write_onnx
from stillhouse.core.portable import Network, Portable
from stillhouse.core.result import Arm, Metric, Result
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.evaluation import evaluation_noise, student_sampler
from stillhouse.diffusion.generator import Generator
from stillhouse.diffusion.portable import condition_of, few_step_of
from stillhouse.diffusion.preconditioning import Edm
from stillhouse.diffusion.teacher import new_unet
from stillhouse.exporting import export as exporting
from stillhouse.exporting.export import export

RIGHT = Metric("right", "Right", "higher")


class Twice(nn.Module):
    """Two outputs of two inputs, one of which has a free length."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Linear(4, 3)

    def forward(self, rows, words):
        return self.weight(rows), rows.sum(1) + words.float().mean(1)


def twice(calibrated=True):
    torch.manual_seed(1)
    inputs = {"rows": torch.randn(10, 4), "words": torch.randint(0, 9, (10, 6))}
    return Network(
        "model", Twice().eval(), inputs, ("scores", "sums"), inputs if calibrated else {}, {"words": {1: "tokens"}}
    )


def told(calls):
    return {
        "right": float(calls["model"]({"rows": np.ones((2, 4), "f"), "words": np.ones((2, 3), "l")})[1].mean()),
        "x": 0,
    }


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of a method that offers `twice`, and a list whose last entry it offers instead."""
    folder = made_up_run(
        tmp_path / "run", Result("dmd2", "Done.", (RIGHT,), (Arm("s", "student", {"right": 1.0}),))
    ).folder
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"123")
    whole = Portable((twice(),), {"safetensors": lambda copy: [Twice()]}, "10 rows", (RIGHT,), told)

    class Module:
        offered = whole

        @classmethod
        def portable(cls, run_folder):
            return cls.offered

    monkeypatch.setattr(exporting, "load_method", lambda name: Module)
    return folder, Module


def test_onnx_has_free_lengths_and_runs_without_torch(tmp_path):
    path, network = tmp_path / "a.onnx", twice()
    write_onnx(network, path)
    given = {"rows": np.random.default_rng(0).random((3, 4), "f"), "words": np.arange(6).reshape(3, 2)}
    ran = run_without_torch(path, given)
    scores = network.module(*map(torch.from_numpy, given.values()))[0]
    assert np.allclose(ran.outputs["scores"], scores.detach(), atol=1e-6)
    assert np.allclose(ran.outputs["sums"], given["rows"].sum(1) + np.array([0.5, 2.5, 4.5]), atol=1e-6)
    assert ran.seconds > 0
    assert b"/src/" not in path.read_bytes() and b"site-packages" not in path.read_bytes()


def test_the_script_loads_no_torch(tmp_path):
    from stillhouse.core import run_onnx

    code = f"import sys, runpy; runpy.run_path({run_onnx.__file__!r}); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_onnx_with_int8_is_compared_with_the_original(run, tmp_path):
    folder, _ = run
    made = export(folder, "onnx", int8="static")
    assert made.folder == folder / "export" / "onnx"
    assert [check.name for check in made.checks] == ["original", "onnx", "onnx int8 static"]
    assert made.checks[0].difference == 0 and made.checks[1].share < 1e-6 < made.checks[2].share < 0.1
    assert made.checks[0].metrics == {"right": pytest.approx(5.0)} == made.checks[1].metrics
    card = (made.folder / "README.md").read_text()
    for words in ("## As onnx", "10 rows", "[items, tokens]", "model.onnx gives scores, sums", "onnx int8 static"):
        assert words in card, words
    assert {file.name for file in made.folder.iterdir()} >= {"model.onnx", "model.int8-static.onnx", "export.json"}


def test_a_copy_that_is_not_the_same_model_is_refused(run):
    folder, module = run

    def other(copy):
        network = Twice()
        nn.init.zeros_(network.weight.weight)
        return [network]

    module.offered = replace(module.offered, opens={"safetensors": other})
    with pytest.raises(UserError, match="differ by"):
        export(folder, "safetensors")
    assert not (folder / "export" / "safetensors").exists()


def test_outputs_that_are_not_numbers_are_refused(run):
    folder, module = run

    def broken(copy):
        network = Twice()
        nn.init.constant_(network.weight.weight, float("nan"))
        return [network]

    module.offered = replace(module.offered, opens={"safetensors": broken})
    with pytest.raises(UserError, match="differ by"):
        export(folder, "safetensors")


def test_requests_that_cannot_be_met(run, tmp_path):
    folder, _ = run
    with pytest.raises(UserError, match="has no diffusers form; choose one of safetensors, onnx"):
        export(folder, "diffusers")
    with pytest.raises(UserError, match="int8 is for --format onnx"):
        export(folder, "safetensors", int8="static")
    with pytest.raises(UserError, match="has not finished"):
        export(unfinished_run(tmp_path / "unfinished").folder, "onnx")
    with pytest.raises(UserError, match="is not an export"):
        export(folder, "safetensors", out=folder)
    assert (folder / "config.json").exists()
    with pytest.raises(UserError, match="no inputs to calibrate on"):
        write_int8(twice(calibrated=False), _written(tmp_path), tmp_path / "small.onnx", "static")


def _written(tmp_path):
    write_onnx(twice(), tmp_path / "full.onnx")
    return tmp_path / "full.onnx"


def test_an_export_is_replaced_by_the_next(run):
    folder, _ = run
    export(folder, "safetensors")
    assert export(folder, "safetensors").checks[1].difference == 0


@pytest.mark.parametrize("sigmas", [(80.0,), (80.0, 2.5, 0.5)])
def test_the_graph_of_a_generator_is_the_generator(sigmas):
    torch.manual_seed(0)
    names = tuple("abc")
    generator = Generator(
        Denoiser(new_unet((8, 16), 1, 8, 3, None), Edm()).eval().requires_grad_(False), sigmas, names, None, None
    )
    noise = evaluation_noise(student_sampler(generator.denoiser, sigmas), 3, seed=5)
    made = few_step_of(generator.denoiser, generator)(noise, condition_of(generator, ["c", "a", "b"])["class"])
    assert torch.allclose(made, generator(["c", "a", "b"], seed=5), atol=1e-6)
