"""Which teacher layer each student layer learns from: skip, last, and the earth mover's distance between all pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog

from stillhouse.core.errors import require


def hidden_pairs(strategy: str, student_layers: int, teacher_layers: int) -> tuple[tuple[int, int], ...]:
    """(student, teacher) pairs of states, 0 the embeddings: skip j <- int(j T / S), last j <- T - S + j, emd all.

    Raises:
        UserError: the student has more layers than the teacher.
    """
    _require_fewer(student_layers, teacher_layers)
    students = range(student_layers + 1)
    if strategy == "skip":
        return tuple((j, j * teacher_layers // student_layers) for j in students)
    if strategy == "last":
        return tuple((j, teacher_layers - student_layers + j) for j in students)
    if strategy == "emd":
        return tuple((j, i) for j in students for i in range(teacher_layers + 1))
    raise ValueError(f"no mapping {strategy!r}")


def attention_pairs(strategy: str, student_layers: int, teacher_layers: int) -> tuple[tuple[int, int], ...]:
    """(student, teacher) pairs of attention, 0 the first layer: skip j <- int((j + 1) T / S - 1), last, emd all.

    Raises:
        UserError: the student has more layers than the teacher.
    """
    _require_fewer(student_layers, teacher_layers)
    students = range(student_layers)
    if strategy == "skip":
        return tuple((j, (j + 1) * teacher_layers // student_layers - 1) for j in students)
    if strategy == "last":
        return tuple((j, teacher_layers - student_layers + j) for j in students)
    if strategy == "emd":
        return tuple((j, i) for j in students for i in range(teacher_layers))
    raise ValueError(f"no mapping {strategy!r}")


def _require_fewer(student_layers: int, teacher_layers: int) -> None:
    require(
        student_layers <= teacher_layers,
        f"a student of {student_layers} layers has no mapping to {teacher_layers} layers",
        "give the student fewer layers than the teacher",
    )


def transport(costs: np.ndarray, student_weights: np.ndarray, teacher_weights: np.ndarray) -> np.ndarray:
    """The flow F >= 0 of least sum F * costs with the given row and column sums (earth mover's distance).

    Args:
        costs: [students, teachers], any sign: they are shifted to be positive, which changes no optimal flow.
        student_weights, teacher_weights: sums of F's rows and columns; each sums to 1.
    """
    students, teachers = costs.shape
    rows = np.kron(np.eye(students), np.ones(teachers))
    columns = np.kron(np.ones(students), np.eye(teachers))
    found = linprog(
        (costs - costs.min()).ravel(),
        A_eq=np.vstack([rows, columns[:-1]]),  # the last column's sum follows from the others
        b_eq=np.concatenate([student_weights, teacher_weights[:-1]]),
        method="highs",
    )
    if found.status != 0:
        raise ArithmeticError(f"no flow between layers: {found.message}")
    return found.x.reshape(students, teachers)


def reweighted(flow: np.ndarray, costs: np.ndarray, weights: np.ndarray, axis: int, temperature: float) -> np.ndarray:
    """BERT-EMD's cost attention: w_i = softmax_i( (sum_k c_k / c_i) / temperature ), c_i = sum_j F_ij D_ij / w_i.

    Layers that are cheap to imitate get more weight.

    Args:
        flow, costs: [students, teachers].
        weights: current weights of the layers along `axis` (0: student, 1: teacher).
        axis: whose weights.
        temperature: how far apart the weights may go.
    """
    shifted = costs - costs.min()
    each = (flow * shifted).sum(1 - axis) / np.maximum(weights, 1e-9) + 1e-6
    logits = each.sum() / each / temperature
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()


def uniform(layers: int) -> np.ndarray:
    """Equal weights that sum to 1."""
    return np.full(layers, 1 / layers)


def words(pairs: Sequence[tuple[int, int]], teacher_layers: int) -> str:
    """Pairs in words, for the report."""
    name = {0: "embeddings"}
    return ", ".join(f"{name.get(j, j)} from {name.get(i, i)}" for j, i in pairs) + f" (teacher has {teacher_layers})"
