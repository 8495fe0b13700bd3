"""AutoDistil's own commands: students from the front of a finished run, without training."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from transformers import AutoModel

from stillhouse.core.files import make_folder_atomically
from stillhouse.core.onnx_files import numpy_of, onnx_call, torch_call, write_checked, write_int8
from stillhouse.core.portable import Network
from stillhouse.encoders.corpora import load_corpus
from stillhouse.encoders.portable import portable_encoder
from stillhouse.methods.autodistil.family import Family, Front, open_family
from stillhouse.methods.autodistil.front import Candidate, costs_in_words, plane_front
from stillhouse.methods.autodistil.report import published
from stillhouse.methods.autodistil.spaces import parse_architecture

Format = Literal["transformers", "onnx", "onnx-int8"]


def pick(
    run: tyro.conf.Positional[Path],
    max_latency_ms: float = 0.0,
    max_flops: int = 0,
    max_parameters: int = 0,
    max_bytes: int = 0,
    architecture: str = "",
    out: Path | None = None,
    format: Format = "transformers",
    json: bool = False,
) -> None:
    """The best student of a finished run within bounds, from the stored front; with --out it is written.

    Args:
        run: a finished run of autodistil.
        max_latency_ms: at most so many milliseconds a text, as measured on the machine of the run.
        max_flops: at most so many multiply-adds for 128 tokens.
        max_parameters: at most so many parameters.
        max_bytes: at most so many bytes of weights in 32-bit floats.
        architecture: take this one instead, as L4-A6-H240-F720.
        out: folder to write the student to.
        format: transformers (AutoModel opens it), onnx (compared with the original), or onnx-int8 (8-bit weights; says what that changes).
        json: machine-readable.
    """
    family = open_family(run)
    if architecture:
        chosen = family.named(parse_architecture(architecture))
    else:
        chosen = family.pick(
            max_latency_ms=max_latency_ms, max_flops=max_flops, max_parameters=max_parameters, max_bytes=max_bytes
        )
    told = described(chosen, family.front)
    if out:
        told["out"] = str(out)
        told |= write(family, chosen, out, format)
    print(json_module.dumps(told, indent=1) if json else in_words(chosen, family.front, told))


def front(run: tyro.conf.Positional[Path], json: bool = False) -> None:
    """The students of a finished run along relations kept and multiply-adds, cheapest first.

    Args:
        run: a finished run of autodistil.
        json: machine-readable: all architectures that can be the best under some bound.
    """
    family = open_family(run)
    if json:
        print(json_module.dumps([described(c, family.front) for c in family.front.front], indent=1))
        return
    for candidate in plane_front(family.front.front):
        print(f"{candidate.shape!s:20} keeps {family.front.kept(candidate):.3f}  {costs_in_words(candidate.costs)}")


def described(candidate: Candidate, front: Front) -> dict[str, Any]:
    """A student as plain values, with the costs that the published formulas would give it."""
    shape, costs = candidate.shape, candidate.costs
    formula = published(front.teacher).of(shape)
    return {
        "architecture": str(shape),
        "sub-space": candidate.space,
        "layers": shape.layers,
        "heads": shape.heads,
        "hidden": shape.hidden,
        "feed_forward": shape.feed_forward,
        "relations_kept": front.kept(candidate),
        "multiply_adds": costs.multiply_adds,
        "multiply_adds_published_formula": round(formula[1]),
        "parameters": costs.parameters,
        "parameters_published_formula": round(formula[0]),
        "bytes": costs.bytes,
        "latency_ms": 1e3 * costs.latency_seconds or None,
    }


def in_words(candidate: Candidate, front: Front, told: Mapping[str, Any]) -> str:
    """A student for the terminal."""
    fewer = front.teacher_costs.multiply_adds / candidate.costs.multiply_adds
    lines = [
        f"{candidate.shape} ({candidate.space}): keeps {front.kept(candidate):.3f} of the teacher's relations",
        f"  {costs_in_words(candidate.costs)}; {fewer:.1f} times fewer multiply-adds than the teacher",
        f"  by the published formulas: {told['multiply_adds_published_formula'] / 1e6:,.1f} million multiply-adds, "
        f"{told['parameters_published_formula']:,} parameters",
    ]
    if "largest_difference" in told:
        lines.append(f"  ONNX states differ from the original's by at most {told['largest_difference']:.1e}")
    if "int8_cosine" in told:
        lines.append(
            f"  8-bit: mean cosine {told['int8_cosine']:.4f} with the original's states, {told['int8_bytes'] / 1e6:.1f} MB"
        )
    if "out" in told:
        lines.append(f"  written to {told['out']}")
    return "\n".join(lines)


def write(family: Family, chosen: Candidate, out: Path, format: Format) -> dict[str, Any]:
    """Write the student; what an export changed."""
    if format == "transformers":
        family.save(chosen, out)
        return {}
    told: dict[str, Any] = {}
    network = network_of(family, chosen)

    def fill(into: Path) -> None:
        told["largest_difference"] = write_checked(network, into / "model.onnx")
        if format == "onnx-int8":
            told.update(_eight_bits(network, into))
        family.tokenizer().save_pretrained(into)

    make_folder_atomically(out, fill)
    return told


def _eight_bits(network: Network, into: Path) -> dict[str, Any]:
    whole, small = into / "model.onnx", into / "model-int8.onnx"
    write_int8(network, whole, small, "dynamic")
    whole.unlink()
    return {"int8_cosine": likeness(network, small), "int8_bytes": small.stat().st_size}


def likeness(network: Network, file: Path) -> float:
    """Mean cosine of a file's states of real tokens with those of the network."""
    inputs = numpy_of(network.inputs)
    real = inputs["attention_mask"].astype(bool)
    ours, theirs = (call(inputs)[0][real] for call in (onnx_call(file), torch_call(network)))
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    return float(((ours * theirs).sum(-1) / lengths).mean())


def network_of(family: Family, chosen: Candidate) -> Network:
    """The student, and docstrings of installed packages to compare an export on."""
    texts = load_corpus("docstrings", most_train=32, most_held=32).report
    portable = portable_encoder(
        family.student(chosen),
        family.tokenizer(),
        (texts, None),
        (texts, None),
        max_tokens=family.front.tokens,
        reopen=AutoModel.from_pretrained,
        outputs=("last_hidden_state",),
    )
    return portable.networks[0]


COMMANDS: Mapping[str, Callable[..., None]] = {"pick": pick, "front": front}
