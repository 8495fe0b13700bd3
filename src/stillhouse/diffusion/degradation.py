"""A recorded path from the teacher to its initial student, and the walk back along it (DisBack, arXiv 2408.15991).

The path's nodes are networks of the teacher's shape: node 0 is the teacher, the last node fits the initial student's
samples. A node is kept on disk as its difference to the teacher, and read back strictly.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import write_atomically
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.samplers import guided
from stillhouse.diffusion.task import weights_hash

NODE_MEND = "start a new run: the path is recorded again"
STILL_FALLING = 0.98
"""Adaptive switching goes on while the later half of the score gaps is below this share of the earlier half."""


def node_file(folder: Path, number: int) -> Path:
    """Where node `number` of a path lies."""
    return folder / f"node-{number:03d}.safetensors"


def save_node(folder: Path, number: int, node: Denoiser, teacher: Denoiser) -> None:
    """Keep node - teacher, weight by weight."""
    origin = teacher.unet.state_dict()
    delta = {name: (weight - origin[name]).cpu().contiguous() for name, weight in node.unet.state_dict().items()}
    metadata = {"teacher": weights_hash(teacher), "node": str(number)}
    write_atomically(node_file(folder, number), safetensors_bytes(delta, metadata=metadata))


def load_node(folder: Path, number: int, teacher: Denoiser) -> dict[str, Tensor]:
    """The weights teacher + delta of node `number`; those of the teacher itself for node 0.

    Raises:
        UserError: the file is missing, damaged, of another teacher, or its weights are not finite or not exactly the
            teacher's.
    """
    origin: dict[str, Tensor] = teacher.unet.state_dict()
    if number == 0:
        return origin
    check_node(folder, number, teacher)
    with safe_open(node_file(folder, number), framework="pt") as file:
        moved = {name: weight + file.get_tensor(name).to(weight.device) for name, weight in origin.items()}
    finite = all(bool(weight.isfinite().all()) for weight in moved.values())
    require(finite, f"{node_file(folder, number)} holds weights that are not finite", NODE_MEND)
    return moved


def check_node(folder: Path, number: int, teacher: Denoiser) -> None:
    """See that node `number` is there, whole, of this teacher, and has exactly its weights; they are not read.

    Raises:
        UserError: it is not.
    """
    path = node_file(folder, number)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"node {path} cannot be read ({error})", NODE_MEND) from error
    mine = metadata.get("teacher") == weights_hash(teacher) and metadata.get("node") == str(number)
    require(mine, f"{path} is not node {number} of this teacher's path", NODE_MEND)
    wanted = {name: tuple(weight.shape) for name, weight in teacher.unet.state_dict().items()}
    require(shapes == wanted, f"the weights in {path} are not those of the teacher's network", NODE_MEND)


def node_network(folder: Path, number: int, teacher: Denoiser) -> Denoiser:
    """Node `number` as a network of its own."""
    network = copy.deepcopy(teacher)
    network.unet.load_state_dict(load_node(folder, number, teacher))
    return network


class Backtracking:
    """The target score that walks the path back: nodes N-1, ..., 1, then the teacher for good (section 3.3).

    Args:
        teacher: node 0.
        folder, nodes: where the recorded nodes 1 to N lie, and N.
        switch: "fixed" goes to the next node after `switch_updates` student updates; "adaptive" does so when the gap
            E||s_target(x_t) - s_fake(x_t)|| has stopped falling: the mean over the later half of the last
            `switch_updates` student updates is no longer below `STILL_FALLING` of the earlier half's.
        switch_updates: see `switch`.
        most_updates: after so many a node is left in any case, so that the walk ends.

    Attributes:
        position: number of the node that is the target now.
        visits: for each node that was left, its number, its student updates, and the gap at its first and last.
    """

    def __init__(
        self,
        teacher: Denoiser,
        folder: Path,
        nodes: int,
        switch: Literal["fixed", "adaptive"],
        switch_updates: int,
        most_updates: int,
    ) -> None:
        self.teacher, self.folder, self.switch = teacher, folder, switch
        self.switch_updates, self.most_updates = switch_updates, most_updates
        self.gaps: list[float] = []
        self.visits: list[tuple[int, int, float, float]] = []
        self.node = copy.deepcopy(teacher)
        for number in range(1, nodes):
            check_node(folder, number, teacher)  # now, not when the walk arrives there
        self._go_to(nodes - 1)

    @property
    def target(self) -> Denoiser:
        """The network that is the target now: on the last stretch the teacher itself, not a copy."""
        return self.node if self.position > 0 else self.teacher

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, guidance_scale: float) -> Tensor:
        """The present node's denoised image."""
        return guided(self.target, condition, guidance_scale)(x, sigma)

    def after_student_update(self, score_gap: float) -> None:
        """Count the update, and go on to the next node when it is time."""
        if self.position == 0:
            return
        self.gaps.append(score_gap)
        if self._is_time():
            self.visits.append((self.position, len(self.gaps), self.gaps[0], self.gaps[-1]))
            self._go_to(self.position - 1)

    def _is_time(self) -> bool:
        updates = len(self.gaps)
        if self.switch == "fixed":
            return updates >= self.switch_updates
        return updates >= self.most_updates or (updates >= self.switch_updates and self._settled())

    def _settled(self) -> bool:
        half = max(1, self.switch_updates // 2)
        earlier, later = self.gaps[-2 * half : -half], self.gaps[-half:]
        return bool(earlier) and fmean(later) >= STILL_FALLING * fmean(earlier)

    def _go_to(self, position: int) -> None:
        self.position, self.gaps = position, []
        if position > 0:
            self.node.unet.load_state_dict(load_node(self.folder, position, self.teacher))
            self.node.requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "gaps": list(self.gaps), "visits": [list(v) for v in self.visits]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._go_to(state_dict["position"])
        self.gaps = list(state_dict["gaps"])
        self.visits = [(int(n), int(u), float(a), float(b)) for n, u, a, b in state_dict["visits"]]


def node_updates(updates: int, nodes: int) -> tuple[int, ...]:
    """After how many updates of the recording each node is kept: evenly spaced, the last at the end."""
    return tuple(round(number * updates / nodes) for number in range(1, nodes + 1))
