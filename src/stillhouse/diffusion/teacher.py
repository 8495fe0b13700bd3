"""Teachers: a local diffusers folder, or a small one trained here with the EDM loss and kept in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel, UNet2DModel
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from stillhouse.core.cache import cache_root
from stillhouse.core.distributed import average_gradients, average_scalars, from_leader, rank, world_size
from stillhouse.core.ema import Ema
from stillhouse.core.errors import UserError, require
from stillhouse.core.files import content_hash, make_folder_atomically, read_json, write_json
from stillhouse.core.ledger import Ledger
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.core.training import Stateful, fit
from stillhouse.diffusion.autoencoder import Autoencoder, load_autoencoder
from stillhouse.diffusion.conditions import Conditions, TextEncoder, load_text_encoder, new_text_encoder
from stillhouse.diffusion.denoiser import SETTINGS_FILE, Denoiser, load_denoiser, save_denoiser
from stillhouse.diffusion.losses import denoising_loss
from stillhouse.diffusion.preconditioning import Edm, Preconditioning, VariancePreserving
from stillhouse.vision.images import ImageData, captions

NULL_TEXT = ""
"""The caption that means "none", as in Stable Diffusion."""


RECIPE = "teacher 1"
"""Part of the cache's key: to be changed with anything in the training that the plan does not name."""
UNet = UNet2DModel | UNet2DConditionModel


@dataclass(frozen=True)
class TeacherPlan:
    """What a teacher that is trained here is."""

    widths: tuple[int, ...]
    """Channels of the UNet's levels, each level half the size of the one before."""
    text: bool = False
    """Conditions are captions instead of classes."""
    prediction: Literal["edm", "epsilon"] = "edm"
    """What the network predicts: EDM's F, or the noise, on the noise grid of Stable Diffusion."""
    updates: int = 800
    batch: int = 128
    lr: float = 2e-3
    ema_decay: float = 0.995
    null_share: float = 0.1
    """Share of training images whose condition is dropped, for guidance."""
    seed: int = 0

    @property
    def preconditioning(self) -> Preconditioning:
        """How the network becomes a denoiser."""
        return Edm() if self.prediction == "edm" else VariancePreserving(stable_diffusion_alphas(), "epsilon")


@dataclass(frozen=True)
class Teacher:
    """A frozen teacher, the conditions it knows, and where it lies."""

    denoiser: Denoiser
    conditions: Conditions
    folder: Path
    text_encoder: TextEncoder | None
    autoencoder: Autoencoder | None
    training_seconds: float | None
    """None for a teacher from outside."""
    training_passes: int | None


def default_widths(size: int) -> tuple[int, ...]:
    """Channels for images of this size: small enough for a laptop.

    Raises:
        UserError: the size is not a multiple of 4.
    """
    require(size % 4 == 0, f"images of {size} x {size} cannot be halved twice", "use a --size that is a multiple of 4")
    if size <= 16:
        return (24, 48)
    return (16, 32, 48) if size <= 32 else (32, 64, 96)


def new_unet(widths: tuple[int, ...], channels: int, size: int, classes: int, text_width: int | None) -> UNet:
    """A UNet from scratch: class-conditional, or text-conditional where `text_width` is given."""
    levels = len(widths)
    shared: dict[str, Any] = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "layers_per_block": 1,
        "block_out_channels": widths,
        "norm_num_groups": 8,
    }
    if text_width is None:
        return UNet2DModel(
            **shared,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            add_attention=False,
            num_class_embeds=classes + 1,
        )
    return UNet2DConditionModel(
        **shared,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        cross_attention_dim=text_width,
        attention_head_dim=4,
    )


def get_teacher(
    teacher: str, plan: TeacherPlan, data: ImageData, run: Run, device: torch.device, prediction: str | None = None
) -> Teacher:
    """The teacher a user named: "train", or a folder.

    Args:
        teacher: "train" or a diffusers folder.
        plan: what to train.
        data: training images; a folder's teacher must fit their channels and size.
        run: where the training stage keeps its state.
        prediction: parametrisation of a folder that does not say it.

    Raises:
        UserError: the folder is missing, damaged, of an unknown parametrisation, or does not fit the data.
    """
    folder = train_teacher(plan, data, run, device) if teacher == "train" else Path(teacher)
    return open_teacher(folder, data, device, prediction)


def open_teacher(folder: Path, data: ImageData, device: torch.device, prediction: str | None = None) -> Teacher:
    """Load a teacher and its conditions for the labels of `data`."""
    denoiser, autoencoder = _open_networks(folder, device, prediction)
    _require_fit(denoiser, autoencoder, data, folder)
    if denoiser.takes_text:
        return _with_texts(denoiser, autoencoder, folder, captions(data))
    conditions = class_conditions(denoiser, data, folder).to(device)
    return Teacher(denoiser, conditions, folder, None, autoencoder, *_training(folder))


def open_text_teacher(
    folder: Path, texts: tuple[str, ...], device: torch.device, prediction: str | None = None
) -> Teacher:
    """Load a text-to-image teacher, with these texts as its conditions; no image is needed.

    Raises:
        UserError: the folder is missing, damaged, of an unknown parametrisation, or takes no text.
    """
    denoiser, autoencoder = _open_networks(folder, device, prediction)
    require(
        denoiser.takes_text,
        f"the teacher in {folder} is not text-conditional",
        "give a Stable-Diffusion-type folder (unet, text_encoder, tokenizer)",
    )
    return _with_texts(denoiser, autoencoder, folder, texts)


def _open_networks(folder: Path, device: torch.device, prediction: str | None) -> tuple[Denoiser, Autoencoder | None]:
    denoiser = load_denoiser(folder, prediction).to(device).requires_grad_(False)
    require(
        "sigmas" not in _settings(folder),
        f"{folder} holds a few-step student, not a teacher",
        "give the folder of a diffusion model",
    )
    require(
        denoiser.config.sample_size is not None,
        f"the teacher in {folder} does not say how large its images are (sample_size)",
        "set sample_size in its config.json",
    )
    autoencoder = load_autoencoder(folder)
    if autoencoder:
        autoencoder.model.to(device)
    return denoiser, autoencoder


def _with_texts(denoiser: Denoiser, autoencoder: Autoencoder | None, folder: Path, texts: tuple[str, ...]) -> Teacher:
    text_encoder, device = load_text_encoder(folder), next(denoiser.parameters()).device
    *rows, null = text_encoder.embed((*texts, NULL_TEXT)).to(device)
    wanted = denoiser.config.cross_attention_dim
    require(
        wanted == null.shape[-1],
        f"the text encoder in {folder} gives embeddings of width {null.shape[-1]}, its network takes {wanted}",
        "use the text encoder that the network was trained with",
    )
    denoiser.null_condition = null
    conditions = Conditions(texts, torch.stack(rows))
    return Teacher(denoiser, conditions, folder, text_encoder, autoencoder, *_training(folder))


def _training(folder: Path) -> tuple[float | None, int | None]:
    """Seconds and passes that a teacher trained here took."""
    made = read_json(folder / "training.json") if (folder / "training.json").exists() else {}
    return made.get("seconds"), made.get("network_passes")


def _require_fit(denoiser: Denoiser, autoencoder: Autoencoder | None, data: ImageData, folder: Path) -> None:
    channels, height, width = denoiser.sample_shape
    require(
        height == width,
        f"the teacher in {folder} makes images of {height} x {width}",
        "use a teacher of square images",
    )
    if autoencoder:
        channels = autoencoder.model.config.in_channels
        height, width = height * autoencoder.shrink, width * autoencoder.shrink
    if (channels, height, width) != (data.channels, data.size, data.size):
        raise UserError(
            f"the teacher in {folder} makes {channels} x {height} x {width} images, "
            f"{data.name} has {data.channels} x {data.size} x {data.size}",
            f"load the data with --size {height} --channels {channels}, or use another teacher",
        )


def class_conditions(denoiser: Denoiser, data: ImageData, folder: Path) -> Conditions:
    """Class indices for a class-conditional teacher, nothing for an unconditional one.

    Raises:
        UserError: the data has more classes than the teacher knows.
    """
    known = denoiser.config.num_class_embeds
    if known is None:
        return Conditions(data.class_names, None)
    known -= denoiser.null_condition is not None
    if len(data.class_names) > known:
        raise UserError(
            f"{data.name} has {len(data.class_names)} classes, the teacher in {folder} knows {known}",
            "use data of the teacher's classes",
        )
    names = list(_settings(folder).get("class_names", ()))
    if names and set(data.class_names) <= set(names):
        return Conditions(data.class_names, torch.tensor([names.index(name) for name in data.class_names]))
    # a teacher from elsewhere that does not name its classes: by position
    require(
        not names or len(names) == len(data.class_names),
        f"{data.name} has classes that the teacher in {folder} does not name",
        f"its classes are: {', '.join(names)}",
    )
    return Conditions(data.class_names, torch.arange(len(data.class_names)))


def teacher_folder(plan: TeacherPlan, data: ImageData) -> Path:
    """Where the cache keeps, or will keep, the planned teacher."""
    key = (RECIPE, repr(sorted(asdict(plan).items())), data.content_hash, torch.__version__)
    return cache_root() / "teachers" / content_hash(key)


def _settings(folder: Path) -> dict[str, Any]:
    place = folder / "unet" if (folder / "unet").is_dir() else folder
    found: dict[str, Any] = read_json(place / SETTINGS_FILE) if (place / SETTINGS_FILE).exists() else {}
    return found


def train_teacher(plan: TeacherPlan, data: ImageData, run: Run, device: torch.device) -> Path:
    """Train the planned teacher on `data`, or find it in the cache; its folder."""
    folder = teacher_folder(plan, data)
    if from_leader("there" if folder.is_dir() else ""):  # all processes must take the same way
        run.log(f"teacher from the cache: {folder}")
        return folder
    seed_everything(plan.seed, "teacher weights")
    text_encoder = new_text_encoder(captions(data)) if plan.text else None
    width = text_encoder.model.config.hidden_size if text_encoder else None
    unet = new_unet(plan.widths, data.channels, data.size, len(data.class_names), width)
    null = None if plan.text else torch.tensor(len(data.class_names))
    noise_kind = plan.preconditioning
    denoiser = Denoiser(unet, noise_kind, null).to(device)
    table = _table_maker(text_encoder, data, device)
    networks = nn.ModuleDict({"denoiser": denoiser, **({"text": text_encoder.model} if text_encoder else {})}).to(
        device
    )
    ema, ledger = Ema(networks, plan.ema_decay), Ledger()
    optimizer = torch.optim.Adam(networks.parameters(), plan.lr, betas=(0.9, 0.99))
    images, labels = data.images.to(device), data.labels.to(device)

    def step(i: int) -> dict[str, float]:
        index = torch.randint(len(images), (plan.batch,))
        noise, level = torch.randn(plan.batch, *images.shape[1:]), torch.randn(plan.batch)
        null_drop = torch.rand(plan.batch) < plan.null_share
        mine = slice(rank(), None, world_size())
        index, noise, level, null_drop = (t[mine].to(device) for t in (index, noise, level, null_drop))
        sigma = _training_sigmas(noise_kind, level)
        rows = torch.where(null_drop, len(data.class_names), labels[index])
        x = images[index] + sigma[:, None, None, None] * noise
        loss = denoising_loss(denoiser(x, sigma, table()[rows]), images[index], noise_kind.loss_weight(sigma))
        optimizer.zero_grad()
        loss.backward()
        average_gradients(networks.parameters())
        clip_grad_norm_(networks.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * min(1.0, (i + 1) / 100, 2 * (1 - i / plan.updates))
        optimizer.step()
        ema.update()
        ledger.add("network_passes", 2 * plan.batch)
        return average_scalars({"denoising": loss.item()})

    state: dict[str, Stateful] = {"networks": networks, "ema": ema, "optimizer": optimizer, "ledger": ledger}
    fitted = fit(step, state, plan.updates, run, stage="teacher", seed=plan.seed)
    if run.leader:
        trained = ema.average.get_submodule("denoiser")
        if text_encoder:
            text_encoder.model.load_state_dict(ema.average.get_submodule("text").state_dict())
        made = {"seconds": fitted.seconds, "network_passes": ledger["network_passes"], "updates": fitted.updates}

        def fill(place: Path) -> None:
            save_model(cast(Denoiser, trained), text_encoder, place, class_names=data.class_names)
            write_json(place / "training.json", made)
            if plan.prediction == "epsilon":
                stable_diffusion_scheduler().save_pretrained(place / "scheduler")

        make_folder_atomically(folder, fill)
    return Path(from_leader(str(folder)))


def _training_sigmas(noise: Preconditioning, level: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Noise levels from standard normal numbers: EDM's log-normal ones, or even ones on the model's own grid."""
    if isinstance(noise, Edm):
        return (1.2 * level - 1.2).exp()
    return noise.sigma(torch.special.ndtr(level))


def stable_diffusion_scheduler() -> Any:
    """Stable Diffusion's noise grid (arXiv 2112.10752), for a network that predicts the noise."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def stable_diffusion_alphas() -> tuple[float, ...]:
    """Products of its alphas, a number a step."""
    return tuple(stable_diffusion_scheduler().alphas_cumprod.tolist())


def save_model(denoiser: Denoiser, text_encoder: TextEncoder | None, folder: Path, **settings: Any) -> None:
    """Save as a UNet folder, or with a text encoder as a folder of unet, text_encoder and tokenizer."""
    save_denoiser(denoiser, folder / "unet" if text_encoder else folder, **settings)
    if text_encoder:
        text_encoder.save(folder)


def save_student(denoiser: Denoiser, teacher: Teacher, folder: Path, **settings: Any) -> None:
    """Save a student in its teacher's format, with the parts that the two share beside it."""
    save_model(denoiser, teacher.text_encoder, folder, class_names=teacher.conditions.names, **settings)
    for part in ("vae", "scheduler", "model_index.json"):
        source = teacher.folder / part
        if source.is_dir():
            shutil.copytree(source, folder / part)
        elif source.exists():
            shutil.copy(source, folder / part)


def _table_maker(text_encoder: TextEncoder | None, data: ImageData, device: torch.device) -> Callable[[], Tensor]:
    """The conditions of all labels and of none (last row); texts are embedded anew as their encoder learns."""
    if text_encoder:
        return lambda: text_encoder.embed((*captions(data), NULL_TEXT))
    table = torch.arange(len(data.class_names) + 1, device=device)
    return lambda: table
