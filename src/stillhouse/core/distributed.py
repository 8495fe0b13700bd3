"""Several processes, one result: every process draws the whole batch's random numbers and computes its part.

Start with `torchrun --nproc-per-node N -m stillhouse run ...`. Gradients are averaged over processes after the
backward pass; networks stay plain modules, which is what methods that train two to four of them by turns need.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist


def rank() -> int:
    """This process's number; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes work together; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start_processes() -> None:
    """Join the process group that torchrun describes (NCCL on GPUs, gloo elsewhere); nothing without torchrun."""
    if world_size() > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        # the others wait in a collective while the leader evaluates, which can take long
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(hours=12))


def stop_processes() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def from_leader(value: str) -> str:
    """Rank 0's value, in every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over processes, in one message."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def any_process(flag: bool) -> bool:
    """Whether the flag is up in any process."""
    return average_scalars({"flag": float(flag)})["flag"] > 0


def average_scalars(values: dict[str, float]) -> dict[str, float]:
    """Mean of each value over processes."""
    if world_size() == 1 or not values:
        return values
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return dict(zip(values, (tensor / world_size()).tolist(), strict=True))
