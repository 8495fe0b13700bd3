"""Stopping a run in a chosen stage, as a kill would."""

import pytest

import stillhouse
from stillhouse import launch
from stillhouse.catalog import load_method
from stillhouse.core import training


class Stop(Exception):
    """The end of the process, as far as the run can tell."""


def stopped_and_resumed(method, options, folder, stage, update, monkeypatch):
    """A run that is stopped before `update` of `stage`, with everything saved until then, and resumed."""
    seed, reached = training.seed_everything, []

    def stopping(*parts):
        if parts[1:] == (stage, update) and not reached:
            reached.append(True)
            raise Stop
        seed(*parts)

    config = launch.with_options(load_method(method).PRESETS["laptop"], dict(options))
    with monkeypatch.context() as patched:
        patched.setattr(training, "seed_everything", stopping)
        with pytest.raises(Stop):
            launch.start(method, config, out=folder, quiet=True, checkpoint_seconds=0)
    return stillhouse.resume(folder, quiet=True)
