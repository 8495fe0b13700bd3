"""Who is listened to: users that write regularly, none of them more than a few posts; the funnel that shows what was left out.

Everything is counted as posts stream by. What is held grows with users and distinct posts, not with their length.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillhouse.core.errors import require
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.readers import Post

MONTH_SECONDS = 30.44 * 86_400
COPIES_OF_A_BOT = 0.5
"""Share of copies among at least five posts that makes a user a bot."""


def gini(counts: Iterable[float]) -> float:
    """G = sum_i (2 i - n - 1) x_i / (n sum x), x sorted: 0 if all write as much, near 1 if one writes everything."""
    x = np.sort(np.asarray(list(counts), float))
    if not x.size or x.sum() == 0:
        return 0.0
    n = len(x)
    return float(((2 * np.arange(1, n + 1) - n - 1) * x).sum() / (n * x.sum()))


@dataclass(slots=True)
class Activity:
    """What is known of a user after the first pass."""

    posts: int = 0
    """Usable posts, copies not counted."""
    copies: int = 0
    months: set[int] = field(default_factory=set)
    first: float = math.inf
    last: float = -math.inf
    staff: bool = False

    def add(self, post: Post) -> None:
        """Take in a usable post."""
        self.posts += 1
        self.staff = self.staff or post.staff
        if not math.isnan(post.time):
            self.months.add(int(post.time // MONTH_SECONDS))
            self.first, self.last = min(self.first, post.time), max(self.last, post.time)

    @property
    def is_bot(self) -> bool:
        """Whether most of what the user writes are copies."""
        every = self.posts + self.copies
        return every >= 5 and self.copies >= COPIES_OF_A_BOT * every


@dataclass(frozen=True)
class Rule:
    """Who counts as a regular user, and how much of each is taken. The paper gives no thresholds; these are ours."""

    min_posts: int = 4
    min_months: int = 2
    top_share: float = 0.01
    """Users above this upper quantile of activity are left out, where that leaves any."""
    cap: int = 8
    """Most posts a user."""


@dataclass
class Funnel:
    """Posts and users left after every step, in order."""

    rows: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, step: str, posts: int, users: int) -> None:
        """Note what is left after a step."""
        self.rows.append((step, posts, users))

    def plain(self) -> list[list[Any]]:
        """As JSON values."""
        return [list(row) for row in self.rows]


def regular_users(activity: dict[str, Activity], rule: Rule, funnel: Funnel) -> set[str]:
    """The users to take posts from, with the funnel's rows of the choice.

    Months are asked for only where the export has dates.

    Raises:
        UserError: fewer than three users are left.
    """
    left = {user: a for user, a in activity.items() if a.posts}
    dated = any(a.months for a in left.values())
    steps = (
        ("moderators and administrators left out", lambda a: not a.staff),
        ("bots left out", lambda a: not a.is_bot),
        (f"users with {rule.min_posts} posts or more", lambda a: a.posts >= rule.min_posts),
        (f"active in {rule.min_months} months or more", lambda a: not dated or len(a.months) >= rule.min_months),
    )
    for name, stays in steps:
        left = {user: a for user, a in left.items() if stays(a)}
        funnel.add(name, sum(a.posts for a in left.values()), len(left))
    left = _without_top(left, rule.top_share)
    funnel.add(f"top {rule.top_share:.0%} by activity left out", sum(a.posts for a in left.values()), len(left))
    require(
        len(left) >= 3,
        f"{len(left)} of {len(activity)} users write regularly enough, three are needed",
        "lower --min-posts or --min-months, or give a larger export",
    )
    return set(left)


def _without_top(left: dict[str, Activity], share: float) -> dict[str, Activity]:
    if not left or share <= 0:
        return left
    bound = float(np.quantile([a.posts for a in left.values()], 1 - share))
    return {user: a for user, a in left.items() if a.posts <= bound}


class CappedPosts:
    """At most `cap` items a user, drawn by seed as they stream by; the order of the stream does not matter."""

    def __init__(self, cap: int, seed: int) -> None:
        self.cap, self.seed = cap, seed
        self.kept: dict[str, list[tuple[int, str, Any]]] = {}
        self.seen: Counter[str] = Counter()

    def add(self, user: str, key: str, item: Any) -> None:
        """Offer an item of a user; `key` tells it from the user's others."""
        self.seen[user] += 1
        heap = self.kept.setdefault(user, [])
        entry = (-derive_seed("cap", self.seed, user, key), key, item)
        if len(heap) < self.cap:
            heapq.heappush(heap, entry)
        elif entry[:2] > heap[0][:2]:
            heapq.heapreplace(heap, entry)

    def items(self) -> list[Any]:
        """What was kept, user by user, in an order that the stream did not decide."""
        return [item for user in sorted(self.kept) for _, _, item in sorted(self.kept[user], key=lambda e: e[:2])]

    def counts(self) -> Sequence[int]:
        """Kept items of each user."""
        return [len(heap) for _, heap in sorted(self.kept.items())]
