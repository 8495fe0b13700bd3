"""A few-step generator as other tools take it: noise and a condition to images, the sampler inside the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from jaxtyping import Float, Int
from torch import Tensor, nn

from stillhouse.core.portable import Call, Format, Network, Portable
from stillhouse.diffusion.conditions import TextEncoder
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.evaluation import balanced_labels, evaluation_noise, image_metrics, student_sampler
from stillhouse.diffusion.features import trained_features
from stillhouse.diffusion.generator import Generator
from stillhouse.diffusion.metrics import ImageEvaluator
from stillhouse.diffusion.preconditioning import Preconditioning
from stillhouse.vision.images import Splits

INPUTS = 64
JUDGED = 1000
"""Images that each form of the model is judged by."""
TOLD = ("fid_above_floor", "kid", "recall", "class_accuracy")
AT_ONCE = 100


class FewStep(nn.Module):
    """x = D(s_0 n_0; s_0), then x = D(x + s_i n_i; s_i): the few-step sampler with its noise levels as constants.

    Args:
        unet: the student's network.
        preconditioning: how it becomes D.
        sigmas: its noise levels, falling.
        text_model: turns token ids into the network's condition, where it takes text.
        autoencoder: decodes latents into images, where the network makes latents.
    """

    def __init__(
        self,
        unet: nn.Module,
        preconditioning: Preconditioning,
        sigmas: Sequence[float],
        text_model: nn.Module | None = None,
        autoencoder: Any = None,
    ) -> None:
        super().__init__()
        self.unet, self.sigmas, self.text_model, self.autoencoder = unet, tuple(sigmas), text_model, autoencoder
        levels = [preconditioning.coefficients(torch.tensor([sigma])) for sigma in sigmas]
        self.coefficients = [tuple(float(c) for c in level) for level in levels]

    def forward(
        self, noise: Float[Tensor, "batch levels channels height width"], condition: Tensor | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Images in [-1, 1]; the condition is a class [batch] or token ids [batch, tokens]."""
        named: dict[str, Tensor] = {}
        if self.text_model is not None:
            named = {"encoder_hidden_states": self.text_model(condition).last_hidden_state}
        elif condition is not None:
            named = {"class_labels": condition}
        x = torch.zeros_like(noise[:, 0])
        for level, (sigma, (c_skip, c_out, c_in, c_noise)) in enumerate(
            zip(self.sigmas, self.coefficients, strict=True)
        ):
            x = x + sigma * noise[:, level]
            at = torch.full((noise.shape[0],), c_noise)
            x = c_skip * x + c_out * self.unet(c_in * x, at, **named).sample
        if self.autoencoder is not None:
            x = self.autoencoder.decode(x / self.autoencoder.config.scaling_factor).sample
        return x.clamp(-1, 1)


def few_step_of(denoiser: Denoiser, generator: Generator) -> FewStep:
    """The sampler of one network of a generator."""
    text, autoencoder = generator.text_encoder, generator.autoencoder
    return FewStep(
        denoiser.unet,
        denoiser.preconditioning,
        generator.sigmas,
        text.model if text else None,
        autoencoder.model if autoencoder else None,
    ).eval()


def condition_of(generator: Generator, names: Sequence[str]) -> dict[str, Tensor]:
    """What the graph is given for these class names or captions; nothing for an unconditional network."""
    if generator.text_encoder:
        return {"input_ids": token_ids(generator.text_encoder, names)}
    if generator.denoiser.config.num_class_embeds is None:
        return {}
    return {"class": torch.tensor([generator.names.index(name) for name in names])}


def token_ids(encoder: TextEncoder, texts: Sequence[str]) -> Int[Tensor, "texts tokens"]:
    """Padded to the text encoder's length, as `TextEncoder.embed` does."""
    length = encoder.model.config.max_position_embeddings
    ids: Tensor = encoder.tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )["input_ids"]
    return ids


def portable_generator(
    generator: Generator,
    splits: Splits | None,
    *,
    seed: int,
    parts: Mapping[str, tuple[Denoiser, Sequence[int]]] | None = None,
    files: tuple[str, ...] = (),
) -> Portable:
    """A saved generator of one network, or of several that share the labels.

    Args:
        generator: of the run's model folder.
        splits: images that it is judged against; None where it was distilled without any.
        seed: of the noise.
        parts: folder name -> (network, its labels), for several networks.
        files: of the model folder that belong to the ONNX files.
    """
    whole = parts is None
    labels = range(len(generator.names)) if generator.names else [0]
    networks = parts or {"model": (generator.denoiser, labels)}
    made = tuple(
        Network(
            name,
            few_step_of(denoiser, generator),
            _inputs(generator, own, seed),
            ("images",),
            _inputs(generator, own, seed + 1),
        )
        for name, (denoiser, own) in networks.items()
    )
    noise: Preconditioning = generator.denoiser.preconditioning
    text, autoencoder = generator.text_encoder, generator.autoencoder

    def open_diffusers(folder: Path) -> list[nn.Module]:
        kind = UNet2DConditionModel if text else UNet2DModel
        places = [folder if whole else folder / name for name in networks]
        unets = [kind.from_pretrained(p / "unet" if (p / "unet").is_dir() else p, use_safetensors=True) for p in places]
        shared = (text.model if text else None, autoencoder.model if autoencoder else None)
        return [FewStep(unet, noise, generator.sigmas, *shared) for unet in unets]

    opens: dict[Format, Callable[[Path], Sequence[nn.Module]]] = dict.fromkeys(
        ("diffusers", "safetensors"), open_diffusers
    )
    judge = _judge(splits) if splits else None
    metrics = tuple(m for m in image_metrics(judge.floor()["train"]) if m.key in TOLD) if judge else ()

    def quality(calls: Mapping[str, Call]) -> dict[str, float]:
        assert judge and splits
        wanted = balanced_labels(splits.train.labels, JUDGED)
        images = draw(generator, calls, {name: own for name, (_, own) in networks.items()}, wanted, seed)
        return judge(images, wanted)

    kind = "UNet2DConditionModel" if text else "UNet2DModel"
    place = "FOLDER" if whole else f"FOLDER/{next(iter(networks))}"
    return Portable(
        made,
        opens,
        f"{INPUTS} images' noise and conditions" + ("" if whole else " for each network"),
        metrics,
        quality if judge else None,
        {
            "diffusers": f"from diffusers import {kind}\n\nunet = {kind}.from_pretrained('{place}{'/unet' if text else ''}')"
        },
        (*files, *(("tokenizer",) if text else ())),
    )


def _inputs(generator: Generator, labels: Sequence[int], seed: int) -> dict[str, Tensor]:
    names = _names(generator, [labels[i % len(labels)] for i in range(INPUTS)])
    return {"noise": _noise(generator, INPUTS, seed), **condition_of(generator, names)}


def _names(generator: Generator, labels: Sequence[int]) -> list[str]:
    return [str(generator.names[label]) if generator.names else "" for label in labels]


def _noise(generator: Generator, count: int, seed: int) -> Tensor:
    return evaluation_noise(student_sampler(generator.denoiser, generator.sigmas), count, seed)


def _judge(splits: Splits) -> ImageEvaluator:
    return ImageEvaluator.for_split(splits, trained_features(splits, quiet=True), "report")


def draw(
    generator: Generator, calls: Mapping[str, Call], labels_of: Mapping[str, Sequence[int]], wanted: Tensor, seed: int
) -> Float[Tensor, "n channels height width"]:
    """An image for each wanted label, by the network that the label belongs to."""
    noise = _noise(generator, len(wanted), seed)
    images: Tensor | None = None
    for name, own in labels_of.items():
        rows = torch.isin(wanted, torch.tensor(list(own))).nonzero()[:, 0]
        for part in rows.split(AT_ONCE):
            given = {"noise": noise[part], **condition_of(generator, _names(generator, wanted[part].tolist()))}
            made = torch.from_numpy(calls[name]({key: value.numpy() for key, value in given.items()})[0])
            images = made.new_zeros(len(wanted), *made.shape[1:]) if images is None else images
            images[part] = made
    assert images is not None
    return images
