"""DMD2 as a user runs it: killed in the middle, in two processes, with text, with adapters, with a bad teacher."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file

import stillhouse
from rows import ROWS
from stillhouse.core.errors import UserError
from stillhouse.core.files import read_json
from stillhouse.core.run import Run
from stillhouse.diffusion.conditions import new_text_encoder
from stillhouse.diffusion.denoiser import SETTINGS_FILE, load_denoiser
from stillhouse.diffusion.lora import merged, with_lora
from stillhouse.diffusion.task import prepare
from stillhouse.methods.dmd2 import PRESETS, build_engine, estimate
from test_diffusion import tiny_unet
from tiny_networks import text_unet

TINY = ROWS["dmd2"]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def command(options, *more):
    flags = []
    for name, value in options.items():
        flags += [f"--{name.replace('_', '-')}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return [sys.executable, "-m", "stillhouse", "run", "dmd2", "--quiet", *flags, *map(str, more)]


def run_tiny(tmp_path, **options):
    return stillhouse.run("dmd2", out=tmp_path / "run", quiet=True, **{**TINY, **options})


@pytest.fixture
def cache_with_features(tmp_path, monkeypatch):
    """A cache of its own that has the feature network but no teacher, so that a teacher is trained too."""
    stillhouse.run("dmd2", out=tmp_path / "first", quiet=True, **TINY)
    own = tmp_path / "cache"
    shutil.copytree(Path(os.environ["STILLHOUSE_CACHE"]) / "features", own / "features")
    monkeypatch.setenv("STILLHOUSE_CACHE", str(own))
    return own


@pytest.mark.slow
def test_kill_at_random_moments_and_resume_to_equal_bits(cache_with_features, tmp_path):
    options = {**TINY, "teacher_updates": 20, "student_updates": 20}
    subprocess.run(command(options, "--out", tmp_path / "straight"), check=True)
    shutil.rmtree(cache_with_features / "teachers")
    killed = tmp_path / "killed"
    words = command(options, "--out", killed, "--checkpoint-seconds", "0")
    kills, chance = 0, random.Random(7)
    while kills < 3:
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        wait_for_checkpoint_or_end(process, killed)
        time.sleep(chance.uniform(0, 1.0))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        words = [sys.executable, "-m", "stillhouse", "resume", str(killed), "--quiet", "--checkpoint-seconds", "0"]
    assert kills == 3, "the run ended before it could be killed three times"
    subprocess.run(words, check=True)
    one, two = load_file(tmp_path / "straight" / "model" / WEIGHTS), load_file(killed / "model" / WEIGHTS)
    assert all(one[key].equal(two[key]) for key in one)
    left, right = (losses(folder) for folder in (tmp_path / "straight", killed))
    assert left == right
    assert (killed / "report.html").exists()


def wait_for_checkpoint_or_end(process, folder):
    """Until the process has saved something new, so that kills fall into training and not into imports."""
    before = saved(folder)
    deadline = time.monotonic() + 60
    while process.poll() is None and saved(folder) == before and time.monotonic() < deadline:
        time.sleep(0.01)


def saved(folder):
    """The checkpoints that are there; by name alone, for the older ones may go while this looks."""
    return set(folder.glob("checkpoint/*/*.safetensors"))


def losses(folder):
    """Every line of metrics.jsonl without its times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(cache_with_features, tmp_path):
    options = {**TINY, "gan_weight": 0.1}
    subprocess.run(command(options, "--out", tmp_path / "one"), check=True)
    shutil.rmtree(cache_with_features / "teachers")
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command(options)[1:]]
    subprocess.run([sys.executable, *two, "--out", tmp_path / "two"], check=True, capture_output=True)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two)
    for left, right in zip(one, two, strict=True):
        left.pop("evaluation", None), right.pop("evaluation", None)
        assert left.pop("stage") == right.pop("stage")
        assert left == pytest.approx(right, rel=2e-4)


def test_student_opens_in_diffusers(tmp_path):
    run = run_tiny(tmp_path)
    unet = UNet2DModel.from_pretrained(run.folder / "model")
    assert unet.config.num_class_embeds == 11
    assert read_json(run.folder / "model" / SETTINGS_FILE)["sigmas"] == [80.0]
    images = stillhouse.load(run.folder)(["seven", 3, "3"], seed=1)
    assert images.shape == (3, 1, 8, 8)
    assert images.abs().max() <= 1
    assert images[1].equal(stillhouse.load(run.folder)([7, 3, 3], seed=1)[1])
    with pytest.raises(UserError, match="no class 'eleven'"):
        stillhouse.load(run.folder)(["eleven"])


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 3},
        {"steps": 2, "inputs": "noised-real"},
        {"gan_weight": 0.0, "fake_score": "none"},
        {"matching_weight": 0.0, "gan_weight": 1.0},
        {"gan_features": "teacher", "precision": "bfloat16", "micro_batches": 2},
        {"guidance_scale": 2.0, "ema_decay": 0.0, "sigma_init": 2.5},
    ],
    ids=lambda options: " ".join(options),
)
def test_variants_run(tmp_path, options):
    run = run_tiny(tmp_path, **options)
    student = run.result.arm("student")
    assert student.cost.updates["student"] == 3
    assert student.cost.network_passes == options.get("steps", 1)


@pytest.mark.parametrize(
    ("options", "passes_an_image"),
    [
        # 3 student updates: image 2, target 1, critic 1; 6 critic updates: 2 each; 3 images for the critic alone
        ({"gan_weight": 0.0}, 3 * 4 + 6 * 2 + 3),
        # + GAN: 2 a student update, 4 a critic update
        ({}, 3 * 6 + 6 * 6 + 3),
        # no critic: the steps between student updates have nothing to do
        ({"gan_weight": 0.0, "fake_score": "none"}, 3 * 3),
        # guidance: one more pass of the target
        ({"gan_weight": 0.0, "guidance_scale": 2.0}, 3 * 5 + 6 * 2 + 3),
    ],
)
def test_every_network_pass_is_counted(tmp_path, options, passes_an_image):
    config = dataclasses.replace(PRESETS["laptop"], **{**TINY, **options})
    with Run.create("dmd2", {}, out=tmp_path / "run", quiet=True) as run:
        engine = build_engine(config, prepare(config, run))
    for i in range(config.student_updates * config.updates_ratio):
        engine.step(i)
    assert engine.ledger["network_passes"] == config.batch * passes_an_image
    planned = next(stage for stage in estimate(config).stages if stage.name == "student")
    if options.get("fake_score") != "none":
        assert planned.network_passes == config.batch * passes_an_image


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": "many"}, "wrong value"),
        ({"inputs": "noised"}, "wrong value"),
        ({"steps": 4, "sigma_init": 2.5}, "levels lie below 2.5"),
        ({"fake_score": "none", "gan_features": "fake"}, "--gan-features teacher"),
        ({"widths": (20, 40)}, "widths 20 40 do not fit"),
        ({"micro_batches": 9}, "one image a micro-batch"),
        ({"student_lr": -1.0}, "learning rate"),
        ({"teacher_steps": 1}, "teacher steps"),
    ],
)
def test_options_that_cannot_work_are_refused_and_leave_no_folder(tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        run_tiny(tmp_path, **options)
    assert not (tmp_path / "run").exists() or (tmp_path / "run" / "checkpoint").exists()


def test_adapters_train_alone_and_merge_exactly():
    torch.manual_seed(0)
    teacher = load_like(tiny_unet(num_class_embeds=4))
    adapted = with_lora(teacher, rank=2)
    names = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert names
    assert all("lora" in name for name in names)
    for p in adapted.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.1)
    x, sigma, c = torch.randn(2, 1, 8, 8), torch.tensor([1.0, 5.0]), torch.tensor([0, 1])
    adapted.eval()
    whole = merged(adapted)
    torch.testing.assert_close(whole(x, sigma, c), adapted(x, sigma, c), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole(x, sigma, c), teacher(x, sigma, c), atol=1e-3)
    assert type(whole.unet) is type(teacher.unet)


def load_like(unet):
    from stillhouse.diffusion.denoiser import Denoiser
    from stillhouse.diffusion.preconditioning import Edm

    return Denoiser(unet, Edm()).eval()


def test_adapter_student_saves_as_a_plain_unet(tmp_path):
    run = run_tiny(tmp_path, lora_rank=2)
    denoiser = load_denoiser(run.folder / "model")
    assert isinstance(denoiser.unet, UNet2DModel)
    assert stillhouse.load(run.folder)(["one"]).isfinite().all()


def test_text_teacher_is_trained_on_captions_and_student_takes_any_caption(tmp_path):
    run = run_tiny(tmp_path, conditions="text", guidance_scale=2.0)
    assert {p.name for p in (run.folder / "model").iterdir()} >= {"unet", "text_encoder", "tokenizer"}
    student = stillhouse.load(run.folder)
    seven, three = student(["a photo of the digit seven"]), student(["a photo of the digit three"])
    assert not seven.equal(three)
    assert student(["seven the photo"]).isfinite().all()


@pytest.fixture
def stable_diffusion_folder(tmp_path):
    """A tiny random folder of Stable Diffusion's layout: unet, text_encoder, tokenizer, scheduler, vae."""
    folder = tmp_path / "sd"
    torch.manual_seed(0)
    text_unet(4, 4, 32, attention_first=True).save_pretrained(folder / "unet")
    new_text_encoder(("a photo of the digit zero",)).save(folder)
    DDPMScheduler().save_pretrained(folder / "scheduler")
    AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    ).save_pretrained(folder / "vae")
    return folder


def test_stable_diffusion_type_folder(stable_diffusion_folder, tmp_path):
    run = run_tiny(tmp_path, teacher=str(stable_diffusion_folder), guidance_scale=1.75)
    settings = read_json(run.folder / "model" / "unet" / SETTINGS_FILE)
    assert settings["noise"]["prediction"] == "epsilon"
    assert settings["sigmas"][0] == pytest.approx(157.4, rel=0.01)  # the scheduler's largest noise
    images = stillhouse.load(run.folder)(["a photo of the digit zero"])
    assert images.shape == (1, 1, 8, 8)


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_text_teacher_without_its_parts(stable_diffusion_folder, tmp_path, part):
    shutil.rmtree(stable_diffusion_folder / part)
    with pytest.raises(UserError, match=part):
        run_tiny(tmp_path, teacher=str(stable_diffusion_folder))


def test_teacher_of_other_channels_size_or_classes(tmp_path):
    tiny_unet(num_class_embeds=4).save_pretrained(tmp_path / "few")
    with pytest.raises(UserError, match=r"10 classes, the teacher .* knows 4"):
        run_tiny(tmp_path, teacher=str(tmp_path / "few"), prediction="edm")
    with pytest.raises(UserError, match=r"makes 1 x 8 x 8 images"):
        stillhouse.run(
            "dmd2",
            out=tmp_path / "b",
            quiet=True,
            **{**TINY, "data": "mnist-5k", "teacher": str(tmp_path / "few"), "prediction": "edm"},
        )
    with pytest.raises(UserError, match="does not say how"):
        stillhouse.run("dmd2", out=tmp_path / "c", quiet=True, **{**TINY, "teacher": str(tmp_path / "few")})


def test_read_only_output_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = subprocess.run(command(TINY, "--out", tmp_path / "file" / "run"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
