"""The weight of a generator's GAN loss beside its matching loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "batch channels height width"]


class GanBalance:
    """Weight of the generator's GAN loss: a number, or "auto".

    "auto" gives the GAN's gradient on the image `share` times the norm of the matching loss's: the ratio of their
    norms, averaged over past student updates (0 at the first, when nothing has been seen), times `share`; and 1 without
    a matching loss.
    """

    MEMORY = 0.9

    def __init__(self, weight: float | Literal["auto"], share: float = 1.0) -> None:
        self.given, self.share = weight, share
        self.ratio = 0.0
        self.seen = {"matching": 0.0, "adversarial": 0.0}

    @property
    def weight(self) -> float:
        """The weight to use now."""
        return self.ratio if self.given == "auto" else float(self.given)

    def see(self, matching: Images, adversarial: Images) -> None:
        """Take in both gradients on this part's images."""
        if self.given != "auto":
            return
        self.seen["matching"] += float(matching.square().sum())
        self.seen["adversarial"] += float(adversarial.square().sum())

    def after_student_update(self, average: Callable[[dict[str, float]], dict[str, float]]) -> None:
        """Move the ratio towards what the last update showed."""
        if self.given != "auto":
            return
        seen = average(self.seen)
        self.seen = dict.fromkeys(seen, 0.0)
        if seen["adversarial"] > 0:
            now = self.share * (seen["matching"] / seen["adversarial"]) ** 0.5 if seen["matching"] > 0 else 1.0
            self.ratio = now if self.ratio == 0 else self.MEMORY * self.ratio + (1 - self.MEMORY) * now

    def state_dict(self) -> dict[str, Any]:
        return {"ratio": self.ratio}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.ratio = state_dict["ratio"]
