"""Shared by all tests: no hub, a cache of their own, one thread a worker."""

import os
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("STILLHOUSE_CACHE", tempfile.mkdtemp(prefix="stillhouse-tests-"))
if SHARED_DATA.is_dir():
    os.environ.setdefault("STILLHOUSE_DATA", str(SHARED_DATA))
# subprocesses of tests run the same source tree
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests run in parallel workers; a thread each keeps them from fighting, and sums in one order."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def public_data():
    """Folder of the data sets with a public home; skips where it is absent."""
    folder = os.environ.get("STILLHOUSE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("$STILLHOUSE_DATA is not set: this test needs a public data set")
    return Path(folder)
