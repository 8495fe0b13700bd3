"""stillhouse: models, training sets and tables made small, fast and cheap by distillation, with the evidence.

import stillhouse
run = stillhouse.run("dmd2", data="digits", student_updates=400)
student = stillhouse.load(run.folder)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillhouse.core.errors import UserError
    from stillhouse.launch import claims, compare, load, resume, run

__all__ = ["UserError", "claims", "compare", "load", "resume", "run"]


def __getattr__(name: str) -> Any:
    # imported when used, so that `stillhouse --help` does not wait for torch
    if name == "UserError":
        from stillhouse.core.errors import UserError

        return UserError
    if name in __all__:
        from stillhouse import launch

        return getattr(launch, name)
    raise AttributeError(f"module 'stillhouse' has no attribute {name!r}")
