"""Errors a user can mend, and the one line that tells how."""


class UserError(Exception):
    """Something in the user's hands is wrong; the command ends with this one line and exit code 2.

    Args:
        what: what is wrong and where, without a full stop ("no teacher folder at ./unet").
        mend: what to do about it ("give a diffusers folder, or 'train'").
    """

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what, mend)
        self.what, self.mend = what, mend

    def __str__(self) -> str:
        return " ".join(f"{self.what}; {self.mend}".split())


class Interrupted(Exception):
    """A run was asked to stop (Ctrl-C, SIGTERM), saved its state and can be resumed."""


def first_line(error: BaseException) -> str:
    """What another library's error says, short enough to be quoted in one of ours."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def require(condition: bool, what: str, mend: str) -> None:
    """Raise `UserError(what, mend)` unless `condition` holds."""
    if not condition:
        raise UserError(what, mend)
