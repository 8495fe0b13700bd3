"""`stillhouse push`: an exported folder to a model hub. Nothing else in stillhouse uploads anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import folder_bytes
from stillhouse.exporting.export import NUMBERS
from stillhouse.reporting.numbers import BYTES, in_unit

NO_ANSWER: type[Exception] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
"""Of httpx or httpx2, whichever this version of the hub's client uses."""


def push(folder: Path, to: str, *, public: bool = False, endpoint: str | None = None) -> str:
    """Upload an exported folder as one commit; the repository is made where there is none.

    Args:
        folder: what `stillhouse export` wrote.
        to: "owner/name".
        public: whether a new repository is for everybody; one that is there keeps its visibility.
        endpoint: the hub's address; that of huggingface_hub ($HF_ENDPOINT) by default.

    Returns:
        The commit's address.

    Raises:
        UserError: not an export, no token ($HF_TOKEN or `hf auth login`), or the hub refuses or does not answer.
    """
    require(
        (folder / NUMBERS).is_file(), f"{folder} is not an export", "make one with: stillhouse export RUN --format onnx"
    )
    api = HfApi(endpoint=endpoint)
    print(f"stillhouse: uploading {folder} ({in_unit(folder_bytes(folder), BYTES)}) to {api.endpoint}/{to}")
    try:
        with _online():
            api.create_repo(to, private=not public, exist_ok=True)
            made = api.upload_folder(repo_id=to, folder_path=folder, commit_message=f"stillhouse export, {folder.name}")
    except HFValidationError as error:
        raise UserError(f"{to!r} is no repository's name ({first_line(error)})", "write owner/name") from error
    except LocalTokenNotFoundError as error:
        raise UserError("there is no token for the hub", "set HF_TOKEN, or log in with: hf auth login") from error
    except (HfHubHTTPError, NO_ANSWER, OSError) as error:
        raise UserError(
            f"the hub did not take it ({first_line(error)})", "check name, token and network; then push again"
        ) from error
    return str(made.commit_url)


@contextmanager
def _online() -> Iterator[None]:
    """stillhouse keeps huggingface_hub offline everywhere else."""
    before, huggingface_hub.constants.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE, False
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before
