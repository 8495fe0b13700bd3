"""The part of a model card that says how an exported form compares with the original, and how it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stillhouse.core.portable import Format, Network, Portable
from stillhouse.reporting.claims import markdown_cell
from stillhouse.reporting.numbers import BYTES, SECONDS, in_unit, significant

if TYPE_CHECKING:
    from stillhouse.exporting.export import Check

CARD = "README.md"


def with_export(card: str, portable: Portable, format: Format, checks: Sequence[Check]) -> str:
    """The run's card with a section on this form of the model."""
    parts = [card.rstrip(), f"## As {format}", _words(portable, checks), comparison(portable, checks)]
    if format == "onnx":
        parts += [_signature(portable.networks), f"```python\n{_onnx_usage(portable.networks[0])}\n```"]
    elif format in portable.usage:
        parts.append(f"```python\n{portable.usage[format]}\n```")
    return "\n\n".join(parts) + "\n"


def _words(portable: Portable, checks: Sequence[Check]) -> str:
    where = " The ONNX files were run by onnxruntime in a process without torch." if "onnx" in checks[1].name else ""
    return (
        f"Checked on {portable.about_inputs}: the largest difference from the original's outputs is "
        f"{significant(checks[1].share)} of their largest value.{where}"
    )


def comparison(portable: Portable, checks: Sequence[Check]) -> str:
    """A Markdown table: the original, this form, and int8 with what it loses."""
    titles = [f"{m.title} {'↓' if m.better == 'lower' else '↑'}" for m in portable.metrics]
    rows = [
        ["Form", "Largest difference, share", *titles, "Size", "One item"],
        ["---", *["---:"] * (len(titles) + 3)],
        *(_row(check, portable) for check in checks),
    ]
    return "\n".join("| " + " | ".join(map(markdown_cell, row)) + " |" for row in rows)


def _row(check: Check, portable: Portable) -> list[str]:
    metrics = [significant(check.metrics.get(metric.key), 4) for metric in portable.metrics]
    difference = "–" if check.name == "original" else significant(check.share)
    size, seconds = in_unit(check.size_bytes, BYTES), in_unit(check.item_seconds, SECONDS)
    return [check.name, difference, *metrics, size, seconds]


def _signature(networks: Sequence[Network]) -> str:
    rows = ["| File | Input | Shape | Type |", "| --- | --- | --- | --- |"]
    for network in networks:
        for name, tensor in network.inputs.items():
            free = {0: "items", **network.varying.get(name, {})}
            shape = ", ".join(str(free.get(axis, size)) for axis, size in enumerate(tensor.shape))
            kind = str(tensor.dtype).removeprefix("torch.")
            rows.append(f"| {network.name}.onnx | {name} | [{shape}] | {kind} |")
    outputs = "; ".join(f"{network.name}.onnx gives {', '.join(network.outputs)}" for network in networks)
    return "\n".join(rows) + f"\n\n{outputs}."


def _onnx_usage(network: Network) -> str:
    given = ", ".join(f'"{name}": {name}' for name in network.inputs)
    return (
        f'import onnxruntime\n\nsession = onnxruntime.InferenceSession("{network.name}.onnx")\n'
        f"outputs = session.run(None, {{{given}}})"
    )
