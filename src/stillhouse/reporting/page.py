"""From values to one self-contained HTML file: templates, pictures as data, text sections."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from stillhouse.core.result import Picture, Table
from stillhouse.reporting.arms import CROWDED
from stillhouse.reporting.numbers import SECONDS, in_unit, significant

PICTURE_BYTES = 1_500_000
"""What all pictures of a page may weigh; in a page they grow by a third."""
WIDEST_PIXELS = 1600


@dataclass(frozen=True)
class Shown:
    """A picture ready for a page, or the reason why it cannot be shown."""

    picture: Picture
    data: str = ""
    width: int = 0
    height: int = 0
    trouble: str = ""


@cache
def templates() -> Environment:
    """The package's page templates; values are escaped in HTML, unknown names are errors."""
    environment = Environment(
        loader=PackageLoader("stillhouse.reporting"),
        autoescape=select_autoescape(["html.j2"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    environment.filters["duration"] = duration
    environment.filters["significant"] = significant
    environment.globals["style"] = Markup((Path(__file__).parent / "templates" / "style.css").read_text("utf-8"))
    environment.globals["crowded"] = CROWDED
    return environment


def render(template: str, **values: Any) -> str:
    """The page made from a template of this package."""
    return templates().get_template(template).render(**values)


def cell(value: object) -> str:
    """An entry of an extra table: numbers to four significant digits, everything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else significant(value, 4)


def duration(seconds: float) -> str:
    """A stopwatch's time with its unit."""
    return in_unit(seconds, SECONDS)


def plain(value: object) -> str:
    """A config value in words: text as it is, nothing as "none", the rest as JSON."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level of dotted names."""
    out: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = plain(value)
    return out


def is_number_column(table: Table, column: int) -> bool:
    """Whether every entry of the column is a number, so it is aligned right."""
    entries = [row[column] for row in table.rows if column < len(row)]
    return bool(entries) and all(isinstance(entry, int | float) for entry in entries)


def show_pictures(folder: Path, pictures: Sequence[Picture]) -> list[Shown]:
    """The pictures as data URIs; one that is lost or damaged is shown as such."""
    budget = PICTURE_BYTES // max(1, len(pictures))
    return [_show(folder, picture, budget) for picture in pictures]


def _show(folder: Path, picture: Picture, budget: int) -> Shown:
    path = (folder / picture.path).resolve()
    if not path.is_relative_to(folder.resolve()):
        return Shown(picture, trouble=f"{picture.path} lies outside the run folder and is not shown")
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".svg":
            return Shown(picture, _data_uri(data, "image/svg+xml"))
        with Image.open(io.BytesIO(data)) as image:
            kind = Image.MIME[image.format or "PNG"]
            small = data if len(data) <= budget and kind in BROWSER_KINDS else _fit(image, budget)
            kind = kind if small is data else "image/webp"
            return Shown(picture, _data_uri(small, kind), *image.size)
    except FileNotFoundError:
        return Shown(picture, trouble=f"{picture.path} is missing from the run folder")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return Shown(picture, trouble=f"{picture.path} cannot be read as a picture")


BROWSER_KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp")


def _fit(image: Image.Image, budget: int) -> bytes:
    """The image as WebP of at most `budget` bytes, first by quality, then by size."""
    copy = image.convert("RGBA" if image.has_transparency_data else "RGB")
    side = WIDEST_PIXELS
    while True:
        copy.thumbnail((side, side))
        for quality in (90, 75, 55):
            file = io.BytesIO()
            copy.save(file, "WEBP", quality=quality)
            if file.tell() <= budget or side < 64:
                return file.getvalue()
        side = side * 2 // 3


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
