"""What a function's calls take lately, so that a slow one does not hold the event loop."""

from __future__ import annotations

KEPT = 0.9
"""How much of a slow call is remembered at the next: a function that is slow now and then stays away from the loop."""


class Pace:
    """Seconds that a call is expected to take, as measured lately."""

    __slots__ = ("expected_s",)

    def __init__(self, guess_s: float) -> None:
        """Begin with a guess."""
        self.expected_s = guess_s

    def note(self, taken_s: float) -> None:
        """Take a call's time: a slower one counts at once, faster ones little by little."""
        self.expected_s = max(taken_s, KEPT * self.expected_s + (1 - KEPT) * taken_s)
