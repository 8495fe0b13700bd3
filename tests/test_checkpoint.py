"""Checkpoints: what goes in comes out, bit for bit; what is damaged is refused by name."""

import pytest
import torch

from stillhouse.core.checkpoint import load_checkpoint, save_checkpoint
from stillhouse.core.errors import UserError


def tied_state():
    weight = torch.randn(3, 4)
    return {
        "a": weight,
        "tied": weight,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "lr": 0.1}}, "groups": [{"betas": (0.9, 0.99)}]},
        "half": torch.randn(5).bfloat16(),
        "empty": torch.zeros(0, 2),
        "plain": [None, True, 7, "text", 1.5],
    }


def equal(one, two):
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and one.equal(two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(equal, one, two))
    return type(one) is type(two) and one == two


def test_round_trip_keeps_types_and_bits(tmp_path):
    state = tied_state()
    save_checkpoint(state, tmp_path / "c.safetensors")
    assert equal(load_checkpoint(tmp_path / "c.safetensors"), state)


def test_adam_continues_bit_equal(tmp_path):
    def train(updates, parameter, optimizer):
        for _ in range(updates):
            optimizer.zero_grad()
            (parameter**2).sum().backward()
            optimizer.step()

    straight = torch.nn.Parameter(torch.ones(4))
    straight_optimizer = torch.optim.AdamW([straight], 0.1)
    train(2, straight, straight_optimizer)
    save_checkpoint({"p": straight, "o": straight_optimizer.state_dict()}, tmp_path / "c.safetensors")
    train(3, straight, straight_optimizer)
    saved = load_checkpoint(tmp_path / "c.safetensors")
    again = torch.nn.Parameter(saved["p"])
    again_optimizer = torch.optim.AdamW([again], 0.1)
    again_optimizer.load_state_dict(saved["o"])
    train(3, again, again_optimizer)
    assert again.equal(straight)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_checkpoint_is_named(tmp_path, share):
    path = tmp_path / "c.safetensors"
    save_checkpoint(tied_state(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"c\.safetensors is damaged"):
        load_checkpoint(path)


def test_flipped_bit_is_named(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(tied_state(), path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match="digest does not match"):
        load_checkpoint(path)


def test_altered_tree_is_named(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint({"done": 12, "w": torch.ones(2)}, path)
    path.write_bytes(path.read_bytes().replace(b"12", b"13"))
    with pytest.raises(UserError, match="digest does not match"):
        load_checkpoint(path)


def test_unknown_type_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="/thing"):
        save_checkpoint({"thing": object()}, tmp_path / "c.safetensors")
    assert not list(tmp_path.iterdir())
