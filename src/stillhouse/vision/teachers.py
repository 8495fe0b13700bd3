"""A trained classifier by name: a saved folder, a transformers folder, or released weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import read_json
from stillhouse.vision.model_files import CARD, load_classifier, require_fit
from stillhouse.vision.resnets import RELEASED, Standardised, released_resnet

if TYPE_CHECKING:
    from jaxtyping import Float


class Logits(nn.Module):
    """A transformers image classifier as a plain network: pixels in, class scores out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        return self.model(pixel_values=images).logits


class Coloured(nn.Module):
    """A network for colour images that takes grey ones too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        return self.network(images.expand(-1, 3, -1, -1))


def open_classifier(name: str, shape: tuple[int, int, int], class_names: tuple[str, ...]) -> nn.Module:
    """A trained classifier for images in [-1, 1], in evaluation mode, checked against the data.

    Args:
        name: "resnet56-cifar10" (20, 32, 44 too), or a folder: of stillhouse (network.json), or of transformers (config.json).
        shape: channels, height, width of the data's images.
        class_names: of the data, in its order; a folder's must be the same where it names them.

    Raises:
        UserError: nothing is there, it is damaged, or it does not fit the data.
    """
    folder = Path(name).expanduser()
    if name in RELEASED:
        network = released_resnet(name)
    elif (folder / CARD).is_file():
        network, card = load_classifier(folder)
        require(
            card["shape"] == shape,
            f"the classifier in {name} was made for images of {_words(card['shape'])}, the data has {_words(shape)}",
            f"choose --size {card['shape'][1]} and data of {card['shape'][0]} channels",
        )
        require(
            card["classes"] == class_names,
            f"the classifier in {name} knows the classes {', '.join(card['classes'][:4])} ..., the data {', '.join(class_names[:4])} ...",
            "take a teacher of the same classes in the same order",
        )
    elif (folder / "config.json").is_file():
        network = Coloured(transformers_classifier(folder)[0])
    else:
        raise UserError(
            f"no classifier at {name}",
            f"give 'train', a folder with network.json or config.json, or one of {', '.join(RELEASED)}",
        )
    require_fit(network, shape, len(class_names), f"the classifier {name}")
    return network.eval()


def _words(shape: Any) -> str:
    return " x ".join(map(str, shape))


def transformers_classifier(folder: Path) -> tuple[nn.Module, tuple[int, int, int] | None]:
    """An image classifier saved by transformers, for images in [-1, 1], and the image shape that its config names.

    Raises:
        UserError: transformers cannot open it.
    """
    from transformers import AutoModelForImageClassification

    try:
        model = AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except Exception as error:
        raise UserError(
            f"{folder} holds no image classifier that transformers can open ({first_line(error)})",
            "save one with save_pretrained (safetensors)",
        ) from error
    processor = (
        read_json(folder / "preprocessor_config.json") if (folder / "preprocessor_config.json").is_file() else {}
    )
    mean, deviation = processor.get("image_mean", [0.5] * 3), processor.get("image_std", [0.5] * 3)
    channels, size = getattr(model.config, "num_channels", 3), _side(processor, model.config)
    network = Standardised(Logits(model), mean[:channels], deviation[:channels])
    return network, (channels, size, size) if size else None


def _side(processor: dict[str, Any], config: Any) -> int | None:
    """Side of the images that a model was made for; None where its files do not say."""
    for given in (processor.get("crop_size"), processor.get("size"), getattr(config, "image_size", None)):
        value = given.get("height", given.get("shortest_edge")) if isinstance(given, dict) else given
        if isinstance(value, int):
            return value
    return None
