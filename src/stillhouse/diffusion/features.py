"""Features in which images are compared: by default a small classifier, trained once on the train split and kept.

The penultimate layer has 32 values, not the 2048 of Inception: the Frechet distance's finite-sample bias grows with
their number, and the reference of a small data set has a few hundred images. Images without classes are learned from
by telling how they were rotated (arXiv 1803.07728), since a classifier of one class learns nothing. Classes that are
combinations of attributes are learned with one head an attribute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stillhouse.core.cache import cached_folder
from stillhouse.core.errors import Interrupted, UserError, require
from stillhouse.core.files import read_json, write_json
from stillhouse.core.run import temporary_run
from stillhouse.core.seeding import generator
from stillhouse.core.training import Stateful, fit
from stillhouse.vision.augmentation import shifted
from stillhouse.vision.images import ImageData, Splits

if TYPE_CHECKING:
    from jaxtyping import Float, Int

TRAINING = "shifts, one cycle 1"
"""Part of the cache's key, beside the network's layers: to be changed with how the network is trained or used."""
ROTATIONS = 4
BATCH_IN_USE = 500


@dataclass(frozen=True, eq=False)
class Features:
    """What an extractor sees in images; on the CPU."""

    embeddings: Float[Tensor, "n features"]
    logits: Float[Tensor, "n classes"]


class FeatureExtractor(Protocol):
    """Anything that turns images in [-1, 1] into features, Inception for one."""

    def __call__(self, images: Float[Tensor, "n channels height width"], /) -> Features: ...


@dataclass(frozen=True)
class FeatureSettings:
    """How the default extractor is built and trained; the seed is not the run's, so all runs share one."""

    embedding: int = 32
    widest: int = 64
    updates: int = 1000
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0


class FeatureNetwork(nn.Module):
    """Convolutions that halve the image down to 4 x 4, a narrow layer (the embedding), and class scores.

    The embedding is the narrow layer before its nonlinearity, shifted and scaled to mean 0 and deviation 1 a feature
    over the train split, so that distances mean about the same on every data set.
    """

    def __init__(self, channels: int, size: int, classes: int, settings: FeatureSettings) -> None:
        super().__init__()
        halvings = max(1, math.ceil(math.log2(size / 4)))
        widths = [max(16, settings.widest >> (halvings - i)) for i in range(halvings + 1)]
        blocks = [_convolution(channels, widths[0], 1)]
        blocks += [_convolution(before, after, 2) for before, after in pairwise(widths)]
        self.trunk = nn.Sequential(
            *blocks, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(widths[-1] * 16, settings.embedding)
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(settings.embedding, classes))
        self.register_buffer("mean", torch.zeros(settings.embedding))
        self.register_buffer("deviation", torch.ones(settings.embedding))

    def forward(self, images: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n classes"]]:
        """Standardised embeddings and logits."""
        embeddings = self.trunk(images)
        return (embeddings - self.mean) / self.deviation, self.head(embeddings)


@dataclass(frozen=True, eq=False)
class TrainedFeatures:
    """The default `FeatureExtractor`; computes on the images' device."""

    network: FeatureNetwork
    data: ImageData
    accuracy: float
    """On the select split: of the classes, or of the four rotations if there is one class."""
    folder: Path

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "n channels height width"], /) -> Features:
        """Features of the images.

        Raises:
            UserError: they have another size or number of channels than those learned from.
        """
        learned = (self.data.channels, self.data.size, self.data.size)
        shape = tuple(images.shape[1:])
        require(shape == learned, f"images are {shape}, the features were learned on {learned}", "give the same kind")
        network = self.network.to(images.device)
        parts = [network(part.float()) for part in images.split(BATCH_IN_USE)]
        embeddings = torch.cat([embedding for embedding, _ in parts]).cpu()
        logits = _scores(self.data, torch.cat([scores for _, scores in parts]).cpu())
        return Features(embeddings, logits if self.data.classes > 1 else logits.new_zeros(len(images), 1))


def trained_features(
    splits: Splits, settings: FeatureSettings | None = None, *, quiet: bool = False
) -> TrainedFeatures:
    """The default extractor for these splits: trained on `train` now, or found in the cache.

    Raises:
        UserError: the cached network is damaged.
    """
    settings = settings or FeatureSettings()
    with torch.random.fork_rng(devices=[]):
        network = _network(splits.train, settings)
    data = (splits.train.content_hash, splits.select.content_hash)
    key = (*data, repr(network), repr(settings), TRAINING, torch.__version__)
    folder = cached_folder("features", key, lambda folder: _train_into(folder, splits, settings, quiet))
    try:
        network.load_state_dict(load_file(folder / "network.safetensors"))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"the feature network in {folder} is damaged ({error})", "remove that folder") from error
    accuracy = float(read_json(folder / "accuracy.json")["select_accuracy"])
    return TrainedFeatures(network.eval(), splits.train, accuracy, folder)


def _train_into(folder: Path, splits: Splits, settings: FeatureSettings, quiet: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = _network(splits.train, settings)
        _train(network, splits.train, settings, quiet)
    network.eval()
    with torch.no_grad():
        embeddings = torch.cat([network.trunk(part) for part in splits.train.images.split(BATCH_IN_USE)])
        network.mean.copy_(embeddings.mean(0))  # type: ignore[operator]
        network.deviation.copy_(embeddings.std(0).clamp_min(1e-6))  # type: ignore[operator]
    save_file(network.state_dict(), folder / "network.safetensors")
    write_json(folder / "accuracy.json", {"select_accuracy": _accuracy(network, splits.select)})


def _train(network: FeatureNetwork, data: ImageData, settings: FeatureSettings, quiet: bool) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.updates)

    def step(update: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(data), (settings.batch,))
        images, labels = _task(data, data.images[chosen], data.labels[chosen], torch.randint(ROTATIONS, (len(chosen),)))
        loss = nn.functional.cross_entropy(_scores(data, network(shifted(images, data.size // 8))[1]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return {"loss": loss.detach()}

    state: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    with temporary_run("features", settings.seed, quiet=quiet) as run:
        try:
            fit(step, state, settings.updates, run, stage="features", agree=bool)
        except Interrupted:
            raise Interrupted("stopped while the feature network was trained; run or resume again") from None


def _task(data: ImageData, images: Tensor, labels: Tensor, turns: Int[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """What the network learns to tell: the class, or the quarter turns where there is one class."""
    if data.classes > 1:
        return images, labels
    turned = [torch.rot90(image, int(turn), (1, 2)) for image, turn in zip(images, turns, strict=True)]
    return torch.stack(turned), turns


@torch.no_grad()
def _accuracy(network: FeatureNetwork, data: ImageData) -> float:
    turns = torch.randint(ROTATIONS, (len(data),), generator=generator("rotations"))
    images, labels = _task(data, data.images, data.labels, turns)
    scores = _scores(data, torch.cat([network(part)[1] for part in images.split(BATCH_IN_USE)]))
    return float((scores.argmax(1) == labels).float().mean())


def _network(data: ImageData, settings: FeatureSettings) -> FeatureNetwork:
    outputs = data.classes if data.classes > 1 else ROTATIONS
    if data.attributes:
        outputs = sum(data.attributes.sizes)
    return FeatureNetwork(data.channels, data.size, outputs, settings)


def _scores(data: ImageData, outputs: Float[Tensor, "n outputs"]) -> Float[Tensor, "n classes"]:
    """A score for each class from the network's outputs: those of its attributes' values together.

    The log-probability of a combination is the sum of its attributes', so the loss over combinations is the sum of the
    attributes' losses.
    """
    if not data.attributes:
        return outputs
    heads = outputs.split(data.attributes.sizes, dim=1)
    table = torch.tensor(data.attributes.table, device=outputs.device)
    return torch.stack([head.log_softmax(1)[:, table[:, i]] for i, head in enumerate(heads)]).sum(0)


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
