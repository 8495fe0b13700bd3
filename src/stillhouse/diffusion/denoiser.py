"""A diffusers UNet as a denoiser D(x; sigma, condition), loaded from and saved to a diffusers folder."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel, UNet2DModel
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import read_json, write_json
from stillhouse.diffusion.preconditioning import Edm, Preconditioning, VariancePreserving

KNOWN = "give a teacher that predicts epsilon, v or the sample with a DDPM-type scheduler, or EDM's F with an EDM one"
SETTINGS_FILE = "stillhouse.json"
"""Beside the network's config.json: what a diffusers folder does not say about preconditioning and steps."""


class Denoiser(nn.Module):
    """D(x; sigma, c): a UNet2DModel (class- or unconditional) or UNet2DConditionModel (text) behind preconditioning.

    Args:
        unet: the network F.
        preconditioning: how F becomes D.
        null_condition: the condition that means "none" for guidance: a class index, or one text embedding
            [tokens, width]; None where the model was not trained with one.

    Attributes:
        autocast_dtype: dtype of the network's own arithmetic (bfloat16 on GPUs), None for the weights' dtype.
    """

    null_condition: Tensor | None
    unet: Any

    def __init__(self, unet: Any, preconditioning: Preconditioning, null_condition: Tensor | None = None) -> None:
        super().__init__()
        self.unet, self.preconditioning = unet, preconditioning
        self.register_buffer("null_condition", null_condition, persistent=False)
        self.autocast_dtype: torch.dtype | None = None

    @property
    def config(self) -> Any:
        """The UNet's diffusers config."""
        return self.unet.config

    @property
    def takes_text(self) -> bool:
        """Whether conditions are text embeddings."""
        return "encoder_hid_dim" in self.config

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of x."""
        size = self.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.config.in_channels, height, width

    @property
    def parameter_count(self) -> int:
        """Parameters of the network."""
        return sum(p.numel() for p in self.unet.parameters())

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        sigma: Float[Tensor, " batch"],
        condition: Tensor | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise, condition)."""
        c_skip, c_out, c_in, c_noise = self.preconditioning.coefficients(sigma)
        context = torch.autocast(x.device.type, self.autocast_dtype) if self.autocast_dtype else nullcontext()
        with context:
            output = self.unet(_wide(c_in) * x, c_noise, **self._named(condition)).sample
        return _wide(c_skip) * x + _wide(c_out) * output.to(x.dtype)

    def features(
        self,
        x: Float[Tensor, "batch channels height width"],
        sigma: Float[Tensor, " batch"],
        condition: Tensor | None,
        at: str = "mid_block",
    ) -> Float[Tensor, "batch features _ _"]:
        """Activations of the UNet's submodule `at`; nothing behind it is computed.

        Raises:
            UserError: the forward pass never reaches `at`.
        """

        def stop(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            raise _Reached(output)

        hook = self.unet.get_submodule(at).register_forward_hook(stop)
        try:
            self(x, sigma, condition)
        except _Reached as reached:
            return reached.output.to(x.dtype)
        finally:
            hook.remove()
        raise UserError(f"the teacher's forward pass never reaches {at!r}", "name a submodule of its UNet")

    def null_like(self, condition: Tensor) -> Tensor:
        """The null condition, once for every row of `condition`.

        Raises:
            UserError: the model was not trained with one.
        """
        if self.null_condition is None:
            raise UserError(
                "this teacher has no null condition, so it cannot be guided",
                "use --guidance-scale 1 or another teacher",
            )
        return (
            self.null_condition.expand_as(condition)
            if condition.ndim > 1
            else self.null_condition.expand(len(condition))
        )

    def _named(self, condition: Tensor | None) -> dict[str, Tensor]:
        if condition is None:
            return {}
        return {"encoder_hidden_states" if self.takes_text else "class_labels": condition}


class _Reached(Exception):
    """Carries a submodule's output out of a forward pass that need not go on."""

    def __init__(self, output: Tensor) -> None:
        self.output = output


def _wide(x: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
    return x[:, None, None, None]


def save_denoiser(denoiser: Denoiser, folder: Path, **settings: Any) -> None:
    """Save as a diffusers folder (config.json and safetensors) with `SETTINGS_FILE` beside it.

    Args:
        settings: further entries of the settings file ("sigmas" of a few-step student, class names, ...).
    """
    folder.mkdir(parents=True, exist_ok=True)
    denoiser.unet.save_pretrained(folder, safe_serialization=True)
    kind = denoiser.preconditioning
    noise = {"prediction": "edm", **asdict(kind)} if isinstance(kind, Edm) else asdict(kind)  # type: ignore[call-overload]
    null = denoiser.null_condition
    write_json(
        folder / SETTINGS_FILE,
        {"noise": noise, "null_class": int(null) if null is not None and null.ndim == 0 else None, **settings},
    )


def load_denoiser(folder: Path, prediction: str | None = None) -> Denoiser:
    """Load a UNet folder, or a pipeline folder with `unet` (and `scheduler`) inside.

    Args:
        folder: a diffusers folder with safetensors weights.
        prediction: "edm", "epsilon" or "v_prediction", where the folder does not say (needs a scheduler for the
            last two).

    Raises:
        UserError: missing folder or files, damaged weights, not a UNet, or an unknown parametrisation.
    """
    require(folder.is_dir(), f"no teacher folder {folder}", "give a diffusers folder, or 'train'")
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    unet = load_unet(unet_folder)
    settings = read_json(unet_folder / SETTINGS_FILE) if (unet_folder / SETTINGS_FILE).exists() else {}
    try:
        noise = _preconditioning(folder, settings.get("noise"), prediction)
        null = None if settings.get("null_class") is None else torch.tensor(int(settings["null_class"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{unet_folder / SETTINGS_FILE} or the scheduler beside it is damaged ({first_line(error)})",
            "restore it, or save the model again",
        ) from error
    return Denoiser(unet, noise, null).eval()


def load_unet(folder: Path) -> UNet2DModel | UNet2DConditionModel:
    """The UNet2DModel or UNet2DConditionModel of a folder; safetensors only.

    Raises:
        UserError: no config, another class, missing or damaged weights.
    """
    config = read_json(folder / "config.json")
    name = config.get("_class_name") if isinstance(config, dict) else None
    kinds = {"UNet2DModel": UNet2DModel, "UNet2DConditionModel": UNet2DConditionModel}
    if name not in kinds:
        raise UserError(f"{folder} holds a {name}, not a UNet", f"give a folder of {' or '.join(kinds)}")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"no safetensors weights in {folder}", "save the model with safe_serialization=True")
    try:
        unet, report = kinds[name].from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, low_cpu_mem_usage=False
        )
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the weights in {folder} cannot be loaded ({first_line(error)})", "fetch or save them again"
        ) from error
    if report["missing_keys"] or report["unexpected_keys"]:
        wrong = [*report["missing_keys"], *report["unexpected_keys"]][0]
        raise UserError(f"the weights in {folder} do not fit its config (first: {wrong})", "fetch or save them again")
    return unet


def _preconditioning(folder: Path, noise: dict[str, Any] | None, prediction: str | None) -> Preconditioning:
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if noise:
        if prediction not in (None, noise["prediction"]):
            raise UserError(f"{folder} says {noise['prediction']!r}, not {prediction!r}", "leave out --prediction")
        if noise["prediction"] == "edm":
            return Edm(**{key: value for key, value in noise.items() if key != "prediction"})
        known = ("epsilon", "v_prediction", "sample")
        require(noise["prediction"] in known, f"{folder} predicts {noise['prediction']!r}", KNOWN)
        return VariancePreserving(tuple(noise["alphas_cumprod"]), noise["prediction"])
    if prediction == "edm":
        return Edm()
    if scheduler.exists():
        config = read_json(scheduler)
        kind: Any = prediction or config.get("prediction_type", "epsilon")
        name = str(config.get("_class_name"))
        if name.startswith("EDM") and kind == "epsilon":
            return Edm(config["sigma_data"], config["sigma_min"], config["sigma_max"], config.get("rho", 7.0))
        require(kind in ("epsilon", "v_prediction", "sample"), f"{scheduler} predicts {kind!r}", KNOWN)
        require("beta_schedule" in config, f"{scheduler} is a {name}, which has no betas", KNOWN)
        alphas = DDPMScheduler.from_config(config).alphas_cumprod
        return VariancePreserving(tuple(alphas.tolist()), kind)
    raise UserError(
        f"{folder} does not say how its network is parametrised (no {SETTINGS_FILE}, no scheduler)",
        "add --prediction edm, or a scheduler folder for epsilon and v_prediction",
    )
