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
        return f"{one_line(self.what)}; {one_line(self.mend)}"


class Interrupted(Exception):
    """A run was asked to stop (Ctrl-C, SIGTERM), saved its state and can be resumed."""


MOST_SHOWN = 600
"""Characters of what a message quotes: a file may have a megabyte where a word belongs."""


def one_line(text: str) -> str:
    """`text` on one line of bounded length, without signs that would move a terminal's cursor or turn its text round."""
    words = " ".join(text[: 4 * MOST_SHOWN].split())
    half = MOST_SHOWN // 2
    words = words if len(words) <= MOST_SHOWN else f"{words[:half]} ... {words[-half:]}"
    return words if words.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def first_line(error: BaseException) -> str:
    """What another library's error says, short enough to be quoted in one of ours."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def require(condition: bool, what: str, mend: str) -> None:
    """Raise `UserError(what, mend)` unless `condition` holds."""
    if not condition:
        raise UserError(what, mend)
