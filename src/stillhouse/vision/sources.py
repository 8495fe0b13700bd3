"""A drawer full of other people's classifiers: opened from a folder, and looked through once.

A source gives features (what enters its last linear layer) and the probabilities of its own classes. It is a folder with network.json
(an architecture card) and network.safetensors, a transformers folder (config.json), or an ONNX file. Images are resized, and turned
grey or coloured, to what each was made for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stillhouse.core.cache import cached_folder
from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import content_hash, read_json
from stillhouse.vision.costs import parameters
from stillhouse.vision.images import resized, with_channels
from stillhouse.vision.maps import classifier_name, watched_input
from stillhouse.vision.model_files import CARD, load_classifier
from stillhouse.vision.soft_outputs import weights_hash
from stillhouse.vision.teachers import transformers_classifier

if TYPE_CHECKING:
    from jaxtyping import Float

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images [n c h w] in [-1, 1] to features [n, d] and log-probabilities [n, k]."""
IN_USE = 256
SMALLEST_PROBABILITY = 1e-12
SIDE_LIMIT = 512


@dataclass(frozen=True, eq=False)
class Source:
    """A trained classifier of some other task."""

    name: str
    forward: Forward
    shape: tuple[int, int, int] | None
    """Channels, height and width that it takes; None takes any."""
    key: str
    """Changes with any weight."""
    parameters: int | None = None
    network: nn.Module | None = None
    """Where it is a torch module that could be trained further."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """Space, description, shape and classes, where it has a card."""


@dataclass(frozen=True)
class Unusable:
    """Something in the folder, or a source, that has no part in what follows, and why."""

    name: str
    why: str


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a source says of some images."""

    features: Float[Tensor, "n d"]
    log_probabilities: Float[Tensor, "n k"]

    @property
    def classes(self) -> int:
        """Of the source."""
        return self.log_probabilities.shape[1]

    def problem(self) -> str:
        """Why nothing can be learned from these, or an empty string."""
        if not bool(self.features.isfinite().all()) or bool(self.log_probabilities.isnan().any()):
            return "outputs that are not finite"
        if bool((self.features.amax(0) - self.features.amin(0) <= 1e-6 * (1 + self.features.abs().amax(0))).all()):
            return "constant features"
        probabilities = self.log_probabilities.exp()
        if bool((probabilities.amax(0) - probabilities.amin(0) <= 1e-4).all()):
            return "the same class scores for every image"
        return ""


def open_sources(folder: Path) -> tuple[list[Source], list[Unusable]]:
    """Every classifier directly below a folder, and what could not be opened.

    Raises:
        UserError: the folder is missing, or nothing in it can be opened (the first reason is named).
    """
    require(folder.is_dir(), f"no folder of source models {folder}", "give one, or 'train'")
    found: list[Source] = []
    unusable: list[Unusable] = []
    for entry in sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".")):
        try:
            source = open_source(entry)
        except UserError as error:
            unusable.append(Unusable(entry.name, error.what))
            continue
        if source is not None:
            found.append(source)
    if not found:
        why = f" ({unusable[0].name}: {unusable[0].why})" if unusable else ""
        raise UserError(
            f"no source model in {folder}{why}",
            "put in folders with network.json or config.json and safetensors, or .onnx files",
        )
    return found, unusable


def open_source(path: Path) -> Source | None:
    """The classifier at a path; None where there is nothing that claims to be one.

    Raises:
        UserError: it cannot be opened.
    """
    if (path / CARD).is_file():
        network, card = load_classifier(path)
        return torch_source(path.name, network, card["shape"], card)
    if (path / "config.json").is_file():
        network, shape = transformers_classifier(path)
        return torch_source(path.name, network, shape, {})
    return onnx_source(path) if path.suffix == ".onnx" else None


def torch_source(
    name: str, network: nn.Module, shape: tuple[int, int, int] | None, card: Mapping[str, Any] | None = None
) -> Source:
    """A torch classifier as a source. Its card may name the layer that classifies ("classifier").

    Raises:
        UserError: there is no linear layer, or no layer of the card's name.
    """
    card = card or {}
    last = card.get("classifier") or classifier_name(network)
    network.eval()

    @torch.no_grad()
    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        with watched_input(network, last) as seen:
            scores = network(images)
        return flat_features(seen["input"]), scores.float().log_softmax(1)

    return Source(name, forward, shape, weights_hash(network), parameters(network), network, card)


def flat_features(entering: Tensor) -> Float[Tensor, "n d"]:
    """What enters the last linear layer as one row an image: the mean over tokens or places where there are several."""
    return (entering if entering.ndim == 2 else entering.flatten(1, -2).mean(1)).float()


def onnx_source(path: Path) -> Source:
    """An ONNX classifier as a source: its first output is class scores or probabilities, features enter its last Gemm or MatMul.

    A file of the same name ending in .json may give `image_mean` and `image_std` (of images in [0, 1]; 0.5 by default).

    Raises:
        UserError: onnxruntime cannot run it, or it does not look like a classifier.
    """
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError("ONNX files need onnx and onnxruntime", "pip install 'stillhouse[export]'") from error
    try:
        graph = onnx.load(path)
        last = [node for node in graph.graph.node if node.op_type in ("Gemm", "MatMul")]
        require(bool(last), f"{path.name} has no Gemm or MatMul, so no features to compare", "leave it out")
        graph.graph.output.append(onnx.ValueInfoProto(name=last[-1].input[0]))
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        settings.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(graph.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:  # onnx and onnxruntime raise bare exceptions of their own
        domains = (
            sorted({node.domain for node in graph.graph.node} - {"", "ai.onnx", "ai.onnx.ml"})
            if "graph" in locals()
            else []
        )
        custom = f"custom operators of {', '.join(domains)}: " if domains else ""
        message = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", first_line(error))
        raise UserError(
            f"{path.name} cannot be run ({custom}{message})", "export it with standard operators"
        ) from error
    given = session.get_inputs()[0]
    require(
        len(session.get_inputs()) == 1 and len(given.shape) == 4,
        f"{path.name} does not take one batch of images",
        "export a classifier of images [n c h w]",
    )
    batch, channels, height, width = (size if isinstance(size, int) else None for size in given.shape)
    mean, deviation = _onnx_standard(path, channels)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = ((images + 1) / 2 - mean) / deviation
        outputs = [_run_onnx(session, given.name, part) for part in pixels.split(batch or len(pixels))]
        scores, features = (torch.cat([output[i] for output in outputs]) for i in (0, -1))
        return flat_features(features), log_probabilities(scores)

    count = sum(torch.tensor(tensor.dims).prod().item() for tensor in graph.graph.initializer if len(tensor.dims))
    shape = (channels or 3, height, width) if height and width else None
    key = content_hash([path.read_bytes(), json.dumps([mean.flatten().tolist(), deviation.flatten().tolist()])])
    return Source(path.stem, forward, shape, key, int(count))


def _onnx_standard(path: Path, channels: int | None) -> tuple[Tensor, Tensor]:
    card = read_json(path.with_suffix(".json")) if path.with_suffix(".json").is_file() else {}
    values = (card.get("image_mean", [0.5]), card.get("image_std", [0.5]))
    mean, deviation = (torch.tensor(value, dtype=torch.float32).view(-1, 1, 1) for value in values)
    fits = all(len(value) in (1, channels or len(value)) for value in (mean, deviation))
    require(
        fits and bool((deviation > 0).all()),
        f"image_mean or image_std of {path.with_suffix('.json').name} does not fit {channels} channels",
        "give a number a channel",
    )
    return mean, deviation


def _run_onnx(session: Any, name: str, images: Tensor) -> list[Tensor]:
    return [torch.from_numpy(output) for output in session.run(None, {name: images.numpy()})]


def log_probabilities(scores: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Of scores, or of what are probabilities already: not negative, with sums of one."""
    sums = scores.sum(1)
    if bool((scores >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        return scores.clamp_min(SMALLEST_PROBABILITY).log()
    return scores.float().log_softmax(1)


def fitted(images: Float[Tensor, "n c h w"], shape: tuple[int, int, int] | None) -> Float[Tensor, "n c2 h2 w2"]:
    """Images of the size and channels that a source takes."""
    return images if shape is None else with_channels(resized(images, shape[1]), shape[0])


def look(source: Source, images: Float[Tensor, "n c h w"]) -> Outputs:
    """One pass of a source over images as they are, kept in the cache (probabilities in half precision).

    Raises:
        UserError: the source does not take the images.
    """

    def make(folder: Path) -> None:
        try:
            parts = [source.forward(fitted(part, source.shape)) for part in images.split(IN_USE)]
        except Exception as error:  # anything that a foreign model may raise
            raise UserError(f"source {source.name} fails ({first_line(error)})", "leave it out") from error
        features, logs = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        save_file({"features": features.contiguous(), "logs": logs.half().contiguous()}, folder / "outputs.safetensors")

    key = (source.key, str(source.shape), images_hash(images))
    stored = load_file(cached_folder("source outputs", key, make) / "outputs.safetensors")
    return Outputs(stored["features"], stored["logs"].float())


def images_hash(images: Float[Tensor, "n c h w"]) -> str:
    """Changes with any pixel."""
    return content_hash([str(tuple(images.shape)), images.contiguous().numpy().tobytes()])


def without_copies(sources: Sequence[Source]) -> tuple[list[Source], list[Unusable]]:
    """The sources, those with the same weights once."""
    first: dict[str, str] = {}
    copies = []
    kept = []
    for source in sources:
        if source.key in first:
            copies.append(Unusable(source.name, f"a copy of {first[source.key]}"))
        else:
            first[source.key] = source.name
            kept.append(source)
    return kept, copies
