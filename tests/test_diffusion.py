"""Preconditioning, samplers and denoisers against closed forms."""

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from torch import nn

from gaussian import SHAPE, GaussianDenoiser
from stillhouse.core.errors import UserError
from stillhouse.diffusion.denoiser import Denoiser, load_denoiser, save_denoiser
from stillhouse.diffusion.preconditioning import Edm, VariancePreserving, interpolate
from stillhouse.diffusion.samplers import (
    ddim,
    euler,
    few_step,
    few_step_sigmas,
    guided,
    heun,
    sampling_sigmas,
    stochastic_heun,
)


def tiny_unet(**more):
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
        add_attention=False,
        **more,
    )


def ddpm(prediction):
    return VariancePreserving(tuple(DDPMScheduler().alphas_cumprod.tolist()), prediction)


# ---- preconditioning


def test_edm_identities():
    sigma = torch.tensor([0.002, 0.5, 3.0, 80.0], dtype=torch.float64)
    c_skip, c_out, c_in, c_noise = Edm().coefficients(sigma)
    total = 0.25 + sigma**2
    torch.testing.assert_close(c_in**2 * total, torch.ones_like(sigma))  # unit input variance
    # unit target variance: Var(y - c_skip (y + s n)) / c_out^2 = 1
    torch.testing.assert_close(((1 - c_skip) ** 2 * 0.25 + c_skip**2 * sigma**2) / c_out**2, torch.ones_like(sigma))
    torch.testing.assert_close(Edm().loss_weight(sigma) * c_out**2, torch.ones_like(sigma))
    torch.testing.assert_close(c_noise, sigma.log() / 4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_variance_preserving_network_gives_the_exact_denoiser(prediction):
    """A network that predicts eps (or v) exactly for Gaussian data must give that data's exact D(x; sigma)."""
    noise, mean, scale = ddpm(prediction), 0.3, 0.7

    class ExactUnet(nn.Module):
        def forward(self, x_t, step):
            a = torch.tensor(noise.alphas_cumprod, dtype=torch.float64)[step.round().long()][:, None, None, None]
            alpha, sigma = a.sqrt(), (1 - a).sqrt()
            clean = mean + alpha * scale**2 * (x_t - alpha * mean) / (alpha**2 * scale**2 + sigma**2)
            eps = (x_t - alpha * clean) / sigma
            return type("Output", (), {"sample": eps if prediction == "epsilon" else alpha * eps - sigma * clean})

    sigma = noise.table[torch.tensor([0, 250, 600, 999])]
    x = torch.randn(4, *SHAPE, dtype=torch.float64) * sigma[:, None, None, None]
    got = Denoiser(ExactUnet(), noise)(x, sigma)
    torch.testing.assert_close(got, GaussianDenoiser(mean, scale)(x, sigma), rtol=1e-6, atol=1e-6)


def test_variance_preserving_grid_ends_and_weights():
    noise = ddpm("epsilon")
    ends = noise.sigma(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([noise.sigma_min, noise.sigma_max], dtype=torch.float64))
    sigma = torch.tensor([0.1, 5.0])
    # |D - y|^2 weighted is |eps - n|^2, and for v it is |v - v'|^2
    torch.testing.assert_close(noise.loss_weight(sigma) * noise.coefficients(sigma).c_out ** 2, torch.ones(2))
    v = ddpm("v_prediction")
    torch.testing.assert_close(v.loss_weight(sigma) * v.coefficients(sigma).c_out ** 2, torch.ones(2))


def test_interpolation_passes_through_its_points():
    x, y = torch.tensor([0.0, 1.0, 4.0]), torch.tensor([1.0, 3.0, 0.0])
    torch.testing.assert_close(
        interpolate(torch.tensor([-1.0, 0.5, 1.0, 2.5, 9.0]), x, y), torch.tensor([1, 2, 3, 1.5, 0])
    )


def test_grids():
    sigmas = sampling_sigmas(Edm(), 18)
    assert len(sigmas) == 19
    assert sigmas[0] == pytest.approx(80)
    assert sigmas[-2:] == [pytest.approx(0.002), 0.0]
    assert few_step_sigmas(Edm(), 1, 2.5) == [2.5]
    four = few_step_sigmas(ddpm("epsilon"), 4, 200.0)
    table = ddpm("epsilon").table
    assert four[1:] == pytest.approx(
        [float(table[t]) for t in (749, 499, 249)], rel=0.02
    )  # the published 749, 499, 249


# ---- samplers


def exact_end(noise, mean, scale, first, last):
    """Where the probability-flow ODE of N(mean, scale^2) takes first * noise by noise level `last`."""
    return mean + (first * noise - mean) * ((scale**2 + last**2) / (scale**2 + first**2)) ** 0.5


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_ode_samplers_converge_at_their_order(sampler, order):
    denoiser, noise = GaussianDenoiser(0.2, 0.5), torch.randn(64, *SHAPE, dtype=torch.float64)
    truth = exact_end(noise, 0.2, 0.5, 80.0, 0.01)
    errors = []
    for steps in (40, 80, 160):
        grid = sampling_sigmas(Edm(sigma_min=0.01), steps)[:-1]
        errors.append(float((sampler(denoiser, noise, grid) - truth).abs().mean()))
    rates = [errors[0] / errors[1], errors[1] / errors[2]]
    assert all(0.75 * 2**order < rate < 1.3 * 2**order for rate in rates), rates


def test_passes_are_counted_right():
    denoiser = GaussianDenoiser(0.0, 1.0)
    heun(denoiser, torch.randn(1, *SHAPE), sampling_sigmas(Edm(), 18))
    assert denoiser.passes == 35


def test_ddim_without_noise_is_euler():
    denoiser, noise = GaussianDenoiser(0.2, 0.5), torch.randn(8, *SHAPE, dtype=torch.float64)
    grid = sampling_sigmas(Edm(), 12)
    torch.testing.assert_close(ddim(denoiser, noise, grid, eta=0.0), euler(denoiser, noise, grid))


@pytest.mark.parametrize(
    "sampler", [lambda d, n, s, g: ddim(d, n, s, 1.0, g), lambda d, n, s, g: stochastic_heun(d, n, s, 20, g, 1.0)]
)
def test_stochastic_samplers_keep_the_distribution(sampler):
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, *SHAPE, generator=g)
    x = sampler(GaussianDenoiser(0.2, 0.5), noise, sampling_sigmas(Edm(), 240), g)
    assert float(x.mean()) == pytest.approx(0.2, abs=0.02)
    assert float(x.std()) == pytest.approx(0.5, abs=0.02)


def test_few_step_is_denoise_renoise():
    noise = [torch.randn(5, *SHAPE) for _ in range(2)]
    denoiser = GaussianDenoiser(0.2, 0.5)
    first = denoiser(80 * noise[0], torch.full((5,), 80.0))
    expected = denoiser(first + 2.0 * noise[1], torch.full((5,), 2.0))
    torch.testing.assert_close(few_step(denoiser, noise, [80.0, 2.0]), expected)


# ---- the denoiser around a diffusers UNet


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    return Denoiser(tiny_unet(num_class_embeds=4), Edm(), torch.tensor(3)).eval()


def test_guidance_is_linear_and_free_at_one(denoiser):
    x, sigma, c = torch.randn(3, 1, 8, 8), torch.rand(3) + 0.1, torch.tensor([0, 1, 2])
    with_c, without = denoiser(x, sigma, c), denoiser(x, sigma, torch.tensor([3, 3, 3]))
    torch.testing.assert_close(guided(denoiser, c, 3.0)(x, sigma), without + 3 * (with_c - without))
    assert guided(denoiser, c, 1.0)(x, sigma).equal(with_c)
    denoiser.null_condition = None
    with pytest.raises(UserError, match="no null condition"):
        guided(denoiser, c, 2.0)(x, sigma)


def test_features_stop_at_the_named_module(denoiser):
    seen = {}
    hook = denoiser.unet.mid_block.register_forward_hook(lambda m, i, o: seen.setdefault("mid", o))
    x, sigma, c = torch.randn(3, 1, 8, 8), torch.rand(3) + 0.1, torch.tensor([0, 1, 2])
    denoiser(x, sigma, c)
    hook.remove()
    late = []
    hook = denoiser.unet.up_blocks.register_forward_hook(lambda *_: late.append(1))
    features = denoiser.features(x, sigma, c, "mid_block")
    hook.remove()
    assert features.equal(seen["mid"])
    assert not late


def test_saved_folder_opens_in_diffusers_and_here(denoiser, tmp_path):
    save_denoiser(denoiser, tmp_path / "m", sigmas=[80.0])
    x, sigma, c = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 3.0]), torch.tensor([0, 2])
    again = load_denoiser(tmp_path / "m")
    assert again(x, sigma, c).equal(denoiser(x, sigma, c))
    assert int(again.null_condition) == 3
    plain = UNet2DModel.from_pretrained(tmp_path / "m").eval()
    assert plain(x, sigma, class_labels=c).sample.equal(denoiser.unet(x, sigma, class_labels=c).sample)


def test_pipeline_folder_says_its_parametrisation_by_its_scheduler(tmp_path):
    tiny_unet().save_pretrained(tmp_path / "unet")
    DDPMScheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "scheduler")
    loaded = load_denoiser(tmp_path)
    assert isinstance(loaded.preconditioning, VariancePreserving)
    assert loaded.preconditioning.prediction == "v_prediction"


def test_scheduler_decides_how_a_folder_is_read(tmp_path):
    tiny_unet().save_pretrained(tmp_path / "unet")
    EDMEulerScheduler(sigma_max=70.0).save_pretrained(tmp_path / "scheduler")
    assert load_denoiser(tmp_path).preconditioning == Edm(sigma_max=70.0)
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "scheduler")
    with pytest.raises(UserError, match="FlowMatch"):
        load_denoiser(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"noise": {"prediction": "edm", "colour": 1}}',
        '{"noise": {"prediction": "flow", "alphas_cumprod": [0.9]}}',
        '{"noise": {"prediction": "epsilon"}}',
        '{"noise": {"prediction": "edm"}, "null_class": "x"}',
    ],
)
def test_damaged_settings_are_one_line(tmp_path, content):
    tiny_unet().save_pretrained(tmp_path / "t")
    (tmp_path / "t" / "stillhouse.json").write_text(content)
    with pytest.raises(UserError) as error:
        load_denoiser(tmp_path / "t")
    assert "\n" not in str(error.value)


def test_unconditional_teacher_cannot_be_guided():
    with pytest.raises(UserError, match="unconditional"):
        guided(Denoiser(tiny_unet(), Edm()), None, 2.0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: None, "does not say how its network is parametrised"),
        (lambda f: (f / "config.json").unlink(), "no file"),
        (lambda f: (f / "config.json").write_text('{"_class_name": "VQModel"}'), "holds a VQModel"),
        (lambda f: next(f.glob("*.safetensors")).unlink(), "no safetensors weights"),
        (lambda f: next(f.glob("*.safetensors")).write_bytes(b"short"), "cannot be loaded"),
        (lambda f: truncate(next(f.glob("*.safetensors"))), "cannot be loaded"),
    ],
)
def test_bad_teacher_folders_are_one_line(tmp_path, damage, message):
    tiny_unet().save_pretrained(tmp_path / "t")
    damage(tmp_path / "t")
    with pytest.raises(UserError, match=message) as error:
        load_denoiser(tmp_path / "t")
    assert "\n" not in str(error.value)


def test_weights_of_another_architecture_are_refused(tmp_path):
    tiny_unet().save_pretrained(tmp_path / "a")
    tiny_unet(num_class_embeds=4).save_pretrained(tmp_path / "b")
    (tmp_path / "b" / "diffusion_pytorch_model.safetensors").write_bytes(
        (tmp_path / "a" / "diffusion_pytorch_model.safetensors").read_bytes()
    )
    with pytest.raises(UserError, match="do not fit its config"):
        load_denoiser(tmp_path / "b", "edm")


def test_pickled_weights_are_never_opened(tmp_path):
    unet = tiny_unet()
    unet.save_pretrained(tmp_path / "t", safe_serialization=False)
    with pytest.raises(UserError, match="no safetensors weights"):
        load_denoiser(tmp_path / "t", "edm")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])
