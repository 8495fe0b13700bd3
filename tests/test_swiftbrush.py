"""SwiftBrush: its equations, one network for two scores, prompts as the only data, and what a user gets wrong."""

import dataclasses
import subprocess
import sys
from functools import partial

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

import stillhouse
from rows import ROWS
from stillhouse.core.errors import UserError
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.diffusion import features
from stillhouse.diffusion.conditions import Conditions, EmbeddedWhenDrawn, new_text_encoder, text_conditions
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.features import _scores
from stillhouse.diffusion.lora import AdaptersOff, with_lora
from stillhouse.diffusion.losses import plain_matching_gradient
from stillhouse.diffusion.metrics import attribute_accuracies
from stillhouse.diffusion.preconditioning import Edm, VariancePreserving
from stillhouse.diffusion.prompts import read_prompts
from stillhouse.diffusion.recipe import Recipe
from stillhouse.diffusion.samplers import guided
from stillhouse.diffusion.score_distillation import ScoreDistillation
from stillhouse.diffusion.task import prepare as prepare_images
from stillhouse.diffusion.teacher import stable_diffusion_alphas
from stillhouse.methods.dmd2 import PRESETS as DMD2
from stillhouse.methods.swiftbrush import (
    ATTENTION,
    PRESETS,
    build_engine,
    estimate,
    lora_weight,
    numbers,
    one_step_student,
    prepare,
    vsd_weight,
)
from stillhouse.vision.captioned_digits import ATTRIBUTES, CAPTIONS, COMBINATIONS, STYLES, _in_style
from stillhouse.vision.images import captions, load_images, split
from test_diffusion import tiny_unet
from test_dmd2 import stable_diffusion_folder  # noqa: F401 (a fixture)
from tiny_networks import text_unet

pytestmark = pytest.mark.usefixtures("quick_features")
TINY = ROWS["swiftbrush"]
CONFIG = dataclasses.replace(PRESETS["laptop"], **{"updates_ratio": 1, **TINY})
NOISE = VariancePreserving(stable_diffusion_alphas(), "epsilon")
TEXTS = ("a thin photo", "a thick photo", "a photo of nothing")


@pytest.fixture
def quick_features(monkeypatch):
    """A feature network that has learned nothing much, in a second."""
    monkeypatch.setattr(features, "FeatureSettings", partial(features.FeatureSettings, updates=20))


def tiny_teacher(preconditioning=NOISE):
    """A random text-to-image denoiser and the conditions of three prompts."""
    torch.manual_seed(0)
    unet = text_unet(8, 1, 16)
    denoiser = Denoiser(unet, preconditioning, torch.randn(5, 16)).requires_grad_(False).eval()
    return denoiser, Conditions(TEXTS, torch.randn(3, 5, 16))


def engine_on(teacher, conditions, **changes):
    config = dataclasses.replace(CONFIG, **{"batch": 4, "guidance_scale": 3.0, **changes})
    both = with_lora(teacher, 2)
    student = one_step_student(config, teacher)
    fake = both if config.fake_score == "lora" else None
    data = RealImages(None, torch.arange(3))
    return ScoreDistillation(student, AdaptersOff(both), fake, conditions, data, numbers(config, teacher))


def some_inputs(conditions, sigma=(0.1, 1.0, 14.0)):
    x = torch.randn(3, 1, 8, 8)
    return x, torch.tensor(sigma), conditions.of(torch.arange(3))


# ---- the paper's equations


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_weights_are_those_of_the_noise_form(prediction):
    """sigma_t^2 (eps_psi - eps_phi) and alpha_t^2 |eps_phi - e|^2, computed from the networks' noise."""
    teacher, conditions = tiny_teacher(VariancePreserving(stable_diffusion_alphas(), prediction))
    fake, _ = tiny_teacher(teacher.preconditioning)
    for p in fake.parameters():
        p.add_(0.05)
    clean, s, c = some_inputs(conditions)
    noise = torch.randn_like(clean)
    wide = s[:, None, None, None]
    alpha, sigma_t = 1 / (1 + wide**2).sqrt(), wide / (1 + wide**2).sqrt()
    noised = clean + wide * noise

    def eps(denoiser):
        return (alpha * noised - alpha * denoiser(noised, s, c)) / sigma_t

    published = sigma_t**2 * (eps(teacher) - eps(fake))
    ours = vsd_weight(s)[:, None, None, None] * plain_matching_gradient(
        clean, fake(noised, s, c), teacher(noised, s, c)
    )
    torch.testing.assert_close(ours, published, rtol=1e-3, atol=1e-5)
    published = (alpha * eps(fake) - alpha * noise).square()
    error = (fake(noised, s, c) - clean).square()
    torch.testing.assert_close((lora_weight(s) / s**2)[:, None, None, None] * error, published, rtol=1e-3, atol=1e-5)


def test_student_is_the_image_that_its_noise_implies():
    teacher, conditions = tiny_teacher()
    z, _, c = some_inputs(conditions)
    sigma_last = float(NOISE.table[-1])
    alpha, sigma_t = (1 + sigma_last**2) ** -0.5, sigma_last * (1 + sigma_last**2) ** -0.5
    step = torch.full((3,), 999.0)
    noise = teacher.unet(sigma_t * z, step, encoder_hidden_states=c).sample
    level = torch.full((3,), sigma_last)
    student = one_step_student(CONFIG, teacher)
    torch.testing.assert_close(
        student(sigma_last * z, level, c), (sigma_t * z - sigma_t * noise) / alpha, rtol=1e-4, atol=1e-3
    )
    plain = one_step_student(dataclasses.replace(CONFIG, reparametrisation="none"), teacher)
    torch.testing.assert_close(plain(sigma_last * z, level, c), noise)


def test_student_without_reparametrisation_needs_a_network_that_predicts_noise():
    teacher, _ = tiny_teacher(Edm())
    with pytest.raises(UserError, match="predicts the image already"):
        one_step_student(dataclasses.replace(CONFIG, reparametrisation="none"), teacher)


# ---- one network, two scores


def with_random_adapters(teacher):
    both = with_lora(teacher, 2)
    for p in both.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.3)
    return both


@pytest.mark.parametrize("scale", [1.0, 4.5])
def test_with_adapters_off_it_is_the_teacher_bit_for_bit(scale):
    teacher, conditions = tiny_teacher()
    both = with_random_adapters(teacher)
    x, sigma, c = some_inputs(conditions)
    expected = guided(teacher, c, scale)(x, sigma)
    on = guided(both, c, scale)(x, sigma)
    assert AdaptersOff(both).denoise(x, sigma, c, scale).equal(expected)
    assert not on.allclose(expected, atol=1e-3)
    assert guided(both, c, scale)(x, sigma).equal(on), "the adapters are on again afterwards"


def test_weights_below_the_adapters_are_the_teachers_own():
    teacher, _ = tiny_teacher()
    own = {p.data_ptr() for p in teacher.parameters()}
    frozen = [p for p in with_lora(teacher, 2).parameters() if not p.requires_grad]
    assert {p.data_ptr() for p in frozen} == own


def test_adapters_on_attention_only_as_published():
    teacher, _ = tiny_teacher()
    names = [name for name, p in with_lora(teacher, 2, 4, ATTENTION).named_parameters() if p.requires_grad]
    assert names
    assert all(any(f".{layer}.lora" in name for layer in ATTENTION) for name in names)
    with pytest.raises(UserError, match="no layer named to_nowhere"):
        with_lora(teacher, 2, layers=("to_nowhere",))


def test_no_gradient_reaches_the_teacher():
    teacher, conditions = tiny_teacher()
    before = [p.clone() for p in teacher.parameters()]
    engine = engine_on(teacher, conditions, student_lr=0.01, fake_lr=0.01)
    start = [p.clone() for p in engine.student.parameters()]
    adapters = {name: p.clone() for name, p in engine.fake_score.named_parameters() if p.requires_grad}
    for i in range(3):
        seed_everything(0, "steps", i)
        engine.step(i)
    assert all(p.grad is None and p.equal(q) for p, q in zip(teacher.parameters(), before, strict=True))
    assert any(not p.equal(q) for p, q in zip(engine.student.parameters(), start, strict=True))
    moved = [not p.equal(adapters[name]) for name, p in engine.fake_score.named_parameters() if p.requires_grad]
    assert sum(moved) > len(moved) / 2


def test_a_checkpoint_holds_the_adapters_and_not_the_frozen_network():
    teacher, conditions = tiny_teacher()
    engine = engine_on(teacher, conditions)
    saved = engine.state["fake_score"].state_dict()
    assert saved
    assert all("lora" in name for name in saved)
    kept = {name: weight.clone() for name, weight in saved.items()}
    for weight in saved.values():
        weight.add_(1.0)
    engine.state["fake_score"].load_state_dict(kept)
    assert all(p.equal(kept[name]) for name, p in engine.fake_score.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_prompts_are_dropped_for_the_fake_score_alone(share):
    teacher, conditions = tiny_teacher()
    engine = engine_on(teacher, conditions, guidance_scale=1.0)
    engine.recipe = dataclasses.replace(engine.recipe, null_share=share)
    seen = []
    forward = engine.fake_score.unet.forward

    def watched(*args, encoder_hidden_states, **kwargs):
        seen.append((torch.is_grad_enabled(), encoder_hidden_states))
        return forward(*args, encoder_hidden_states=encoder_hidden_states, **kwargs)

    engine.fake_score.unet.forward = watched
    engine.step(0)
    null = teacher.null_condition
    learned = [all(row.equal(null) for row in c) for grad, c in seen if grad]
    asked = [any(row.equal(null) for row in c) for grad, c in seen if not grad]
    assert learned == [share == 1.0]
    assert asked == [False, False]


def test_both_scores_are_guided_alike():
    teacher, conditions = tiny_teacher()
    engine = engine_on(teacher, conditions, guidance_scale=4.5)
    assert engine.recipe.guidance_scale == engine.recipe.fake_guidance_scale == 4.5
    # new adapters change nothing, so the two scores are equal, and a fresh student has no gradient
    losses = engine.step(0)
    assert losses["score_gap"] == 0.0
    assert losses["student_gradient"] == 0.0


def test_streams_of_other_methods_are_as_they_were():
    """Without prompt dropout the engine draws no number more than it did."""
    teacher, conditions = tiny_teacher()
    engine = engine_on(teacher, conditions)
    left = {}
    for share in (0.0, 0.5):
        engine.recipe = dataclasses.replace(engine.recipe, null_share=share)
        torch.manual_seed(0)
        engine.draw()
        left[share] = torch.rand(())
    torch.manual_seed(0)
    engine.recipe = Recipe(batch=4, sigmas=engine.recipe.sigmas)
    engine.draw()
    assert torch.rand(()) == left[0.0] != left[0.5]


# ---- prompts and captioned digits


def test_a_table_and_embedding_when_drawn_give_the_same(monkeypatch):
    encoder = new_text_encoder(TEXTS)
    encoder.model.eval()
    device, labels = torch.device("cpu"), torch.tensor([2, 0, 2])
    table = text_conditions(TEXTS, encoder, device)
    monkeypatch.setattr("stillhouse.diffusion.conditions.TABLE_ROWS", 2)
    drawn = text_conditions(TEXTS, encoder, device)
    assert isinstance(drawn, EmbeddedWhenDrawn)
    torch.testing.assert_close(drawn.of(labels), table.of(labels))


def test_captions_name_their_attributes_and_words_are_known():
    encoder = new_text_encoder(CAPTIONS)
    assert CAPTIONS[COMBINATIONS.index((7, 0, 1, 1))] == "a thin slanted photo of the digit seven, inverted"
    assert len(set(CAPTIONS)) == 80
    assert all(encoder.unknown_words(text) == () for text in CAPTIONS)
    assert encoder.unknown_words("a Thin photo of a cat, inverted") == ("cat,",)
    both = encoder.tokenizer(["a thin seven", "A Thin SEVEN"])["input_ids"]
    assert both[0] == both[1]


def test_held_out_combinations_leave_every_digit_and_every_style_in_the_prompts():
    prompts = read_prompts("captioned-digits")
    held_out = [CAPTIONS[label] for label in ATTRIBUTES.held_out]
    assert not set(held_out) & set(prompts)
    assert len(prompts) + len(held_out) == 80
    assert sorted(COMBINATIONS[label][0] for label in ATTRIBUTES.held_out) == list(range(10))
    assert {COMBINATIONS[label][1:] for label in ATTRIBUTES.held_out} == set(STYLES)


def test_styles_are_what_their_names_say():
    page = torch.zeros(1, 32, 32)
    page[0, 6:26, 14:18] = 1.0
    page = page.numpy()
    thin, thick = _in_style(page, 0, 0, 0)[0], _in_style(page, 1, 0, 0)[0]
    assert thin.sum() < 0.8 * thick.sum()
    assert (_in_style(page, 0, 0, 1)[0] == 1 - thin).all()
    slanted = _in_style(page, 0, 1, 0)[0]
    columns = slanted @ range(8) / slanted.sum(1).clip(1e-9)
    assert columns[2] > columns[5] + 1, "the top leans to the right"


def test_versions_of_a_digit_stay_in_one_split():
    data = load_images("captioned-digits")
    splits = split(data, 0)
    groups = [set(part.groups.tolist()) for part in (splits.train, splits.select, splits.report)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 1797
    assert sum(len(part) for part in (splits.train, splits.select, splits.report)) == len(data)
    assert all(set(part.labels.tolist()) == set(range(80)) for part in (splits.train, splits.report))
    assert captions(data) == CAPTIONS


def test_heads_of_attributes_together_score_the_combinations():
    data = load_images("captioned-digits")
    outputs = torch.randn(5, sum(ATTRIBUTES.sizes), dtype=torch.float64)
    scores = _scores(data, outputs)
    torch.testing.assert_close(scores.logsumexp(1), torch.zeros(5, dtype=torch.float64))
    best = torch.stack([head.argmax(1) for head in outputs.split(ATTRIBUTES.sizes, 1)], 1)
    assert torch.tensor(ATTRIBUTES.table)[scores.argmax(1)].equal(best)


def test_attribute_accuracies_count_attributes():
    right, off_by_one = COMBINATIONS.index((3, 0, 0, 1)), COMBINATIONS.index((3, 0, 1, 1))
    held_out = ATTRIBUTES.held_out[0]
    labels, predicted = torch.tensor([right, off_by_one, held_out, held_out]), torch.tensor([right, right, held_out, 0])
    found = attribute_accuracies(ATTRIBUTES, predicted, labels)
    shared = sum(a == b for a, b in zip(COMBINATIONS[0], COMBINATIONS[held_out], strict=True)) / 4
    assert found["attribute_accuracy"] == pytest.approx((1 + 0.75 + 1 + shared) / 4)
    assert found["held_out_accuracy"] == pytest.approx((1 + shared) / 2)


# ---- as a user runs it


def run_tiny(tmp_path, **options):
    return stillhouse.run("swiftbrush", out=tmp_path / "run", quiet=True, **{**TINY, **options})


def test_ablation_runs(tmp_path):
    run = run_tiny(tmp_path, reparametrisation="none", fake_score="none")
    assert run.result.arm("student").cost.updates == {"student": 4, "fake_score": 0}
    assert stillhouse.load(run.folder)([CAPTIONS[0]]).isfinite().all()


@pytest.mark.parametrize(
    ("options", "passes_an_image"),
    [
        # 4 student updates: image 2, target guided 2, fake score guided 2; 4 fake score updates: 2 each
        ({}, 4 * 6 + 4 * 2),
        ({"guidance_scale": 1.0}, 4 * 4 + 4 * 2),
        ({"fake_score": "none"}, 4 * 4),
        # 4 more fake score updates, with images of their own
        ({"updates_ratio": 2}, 4 * 6 + 8 * 2 + 4),
    ],
)
def test_every_network_pass_is_counted_and_planned(tmp_path, options, passes_an_image):
    config = dataclasses.replace(CONFIG, **options)
    teacher, conditions = tiny_teacher()
    changes = {**options, "guidance_scale": config.guidance_scale, "batch": 8}
    engine = engine_on(teacher, conditions, **changes)
    for i in range(config.student_updates * config.updates_ratio):
        engine.step(i)
    assert engine.ledger["network_passes"] == 8 * passes_an_image
    planned = next(stage for stage in estimate(config).stages if stage.name == "student")
    assert planned.network_passes == 8 * passes_an_image


def test_student_and_teacher_open_in_diffusers(tmp_path):
    run = run_tiny(tmp_path)
    unet = UNet2DConditionModel.from_pretrained(run.model_folder / "unet")
    assert unet.config.cross_attention_dim == 32
    scheduler = DDPMScheduler.from_pretrained(run.model_folder / "scheduler")
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.alphas_cumprod[-1] == pytest.approx(0.0047, abs=1e-4)
    student = stillhouse.load(run.folder)
    seven, three = student([CAPTIONS[7]], seed=1), student([CAPTIONS[3]], seed=1)
    assert seven.shape == (1, 1, 8, 8)
    assert not seven.equal(three)


OPENED = """
import sys
from functools import partial
from pathlib import Path
opened = []
def watch(event, args):
    if event == "open" and isinstance(args[0], str):
        opened.append(args[0])
sys.addaudithook(watch)
from stillhouse.vision import image_files, images
def forbidden(*args, **kwargs):
    raise AssertionError("an image was asked for")
images.load_images = images.read_folder = images.read_npz = forbidden
image_files._opened = image_files.np.load = forbidden
images.BUILT_IN.update(dict.fromkeys(images.BUILT_IN, forbidden))
import stillhouse.methods.swiftbrush as method
method.load_images = forbidden
from PIL import Image
open_picture = Image.open
Image.open = lambda file, *rest: forbidden() if isinstance(file, (str, Path)) else open_picture(file, *rest)
from stillhouse.diffusion import features
features.FeatureSettings = partial(features.FeatureSettings, updates=20)
from stillhouse.cli import main
sys.argv = ["stillhouse", *sys.argv[1:]]
main()
print("\\n".join(opened))
"""


def test_a_run_reads_prompts_and_no_image(stable_diffusion_folder, tmp_path):  # noqa: F811
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a photo of the digit zero\n\nzero digit\na photo of the digit zero\n")
    (tmp_path / "decoy.png").write_bytes(b"not opened")
    words = ["run", "swiftbrush", "--quiet", "--teacher", stable_diffusion_folder, "--prompts", prompts]
    words += ["--student-updates", "3", "--batch", "4", "--samples", "100", "--teacher-steps", "2", "--lora-rank", "2"]
    words += ["--out", tmp_path / "run"]
    done = subprocess.run([sys.executable, "-c", OPENED, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = set(done.stdout.splitlines())
    mine = {name for name in files if name.startswith(str(tmp_path)) and not name.startswith(str(tmp_path / "run"))}
    given = {name for name in mine if not name.startswith(str(stable_diffusion_folder))}
    assert given == {str(prompts)}
    ends = (".png", ".jpg", ".jpeg", ".webp", ".npz", ".npy", ".gz", "digits.csv")
    images = [name for name in files if name.endswith(ends) and not name.startswith(str(tmp_path / "run"))]
    assert [name for name in images if "matplotlib" not in name] == []
    assert stillhouse.load(tmp_path / "run").names == ("a photo of the digit zero", "zero digit")


def test_own_prompts_for_the_built_in_teacher_are_judged_by_the_teachers_images(tmp_path):
    prompts = (CAPTIONS[0], "seven, inverted")
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    config = dataclasses.replace(CONFIG, prompts=str(tmp_path / "prompts.txt"))
    with Run.create("swiftbrush", {}, out=tmp_path / "run", quiet=True) as run:
        setting = prepare(config, read_prompts(config.prompts), run)
        again = prepare(config, read_prompts(config.prompts), run)
    assert setting.conditions.names == setting.splits.train.class_names == prompts
    assert setting.splits.train.name == "the teacher's own images"
    assert again.splits.train.images.equal(setting.splits.train.images)
    assert "attribute_accuracy" not in setting.floor["train"]


def test_dmd2_takes_the_same_teacher_and_its_images(tmp_path):
    with Run.create("swiftbrush", {}, out=tmp_path / "run", quiet=True) as run:
        prompts = read_prompts(CONFIG.prompts)
        setting = prepare(CONFIG, prompts, run)
        engine = build_engine(CONFIG, setting, prompts)
    assert engine.data.images is None
    assert len(engine.data.labels) == len(prompts) == 70
    options = {"data": "captioned-digits", "teacher": str(setting.teacher.folder)}
    config = dataclasses.replace(DMD2["laptop"], **{**ROWS["dmd2"], **options})
    with Run.create("dmd2", {}, out=tmp_path / "dmd2", quiet=True) as run:
        theirs = prepare_images(config, run)
    assert theirs.teacher.denoiser.preconditioning == setting.teacher.denoiser.preconditioning
    assert theirs.conditions.table.equal(setting.conditions.table)
    assert theirs.evaluator.reference.images.equal(setting.evaluator.reference.images)
    assert theirs.real_images().images is not None
    assert {"attribute_accuracy", "held_out_accuracy"} <= theirs.floor["halves"].keys()
    assert theirs.evaluator.chance()["attribute_accuracy"] < 0.5


# ---- bad input


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no prompt"),
        (b" \n\t\n", "holds no prompt"),
        (b"\xff\xfe\x00\x01", "cannot be read as text"),
        (b"a photo\0of", "not a text file"),
        (b"a photo of the digit zero\na photo of a zebra\n", "prompt 2 .* 'zebra'"),
    ],
)
def test_broken_prompt_files(stable_diffusion_folder, tmp_path, content, words):  # noqa: F811
    (tmp_path / "prompts.txt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        run_tiny(tmp_path, teacher=str(stable_diffusion_folder), prompts=str(tmp_path / "prompts.txt"))
    assert not (tmp_path / "run").exists()


def test_teachers_that_cannot_be_used(stable_diffusion_folder, tmp_path):  # noqa: F811
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a photo of the digit zero")
    tiny_unet(num_class_embeds=4).save_pretrained(tmp_path / "classes")
    given = {"prompts": str(prompts)}
    with pytest.raises(UserError, match="not text-conditional"):
        run_tiny(tmp_path, teacher=str(tmp_path / "classes"), prediction="edm", **given)
    with pytest.raises(UserError, match="no teacher folder"):
        run_tiny(tmp_path, teacher=str(tmp_path / "nowhere"), **given)
    with pytest.raises(UserError, match="no prompt file"):
        run_tiny(tmp_path, teacher=str(stable_diffusion_folder), prompts=str(tmp_path / "nowhere.txt"))
    with pytest.raises(UserError, match="no prompt file"):
        run_tiny(tmp_path, prompts=str(tmp_path))
    prompts.write_text("a photo of a zebra")
    with pytest.raises(UserError, match="'zebra', which the text encoder does not know"):
        run_tiny(tmp_path, **given, teacher_updates=10**6)
    prompts.write_text("a photo of the digit zero")
    with pytest.raises(UserError, match="built-in prompts are for the built-in teacher"):
        run_tiny(tmp_path, teacher=str(stable_diffusion_folder))
    new_text_encoder(("a photo of the digit zero",), width=16).save(stable_diffusion_folder)
    with pytest.raises(UserError, match="embeddings of width 16, its network takes 32"):
        run_tiny(tmp_path, teacher=str(stable_diffusion_folder), **given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lora_rank": 0}, "rank 0"),
        ({"lora_alpha": 0}, "adapter scale"),
        ({"prompt_dropout": 1.0}, "prompt dropout"),
        ({"guidance_scale": -1.0}, "guidance scale"),
        ({"reparametrisation": "none", "prediction": "edm"}, "predict the image"),
        ({"samples": 20}, "too few to judge"),
    ],
)
def test_options_that_cannot_work(tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        run_tiny(tmp_path, **options)
    assert not (tmp_path / "run").exists()
