"""Buckets of tokens: how often each client may do something."""

import math
from collections import OrderedDict

from workflow_server.app.errors import TooManyRequests

MAX_BUCKETS = 10_000
ROUNDING = 1e-6  # seconds


class Buckets:
    """A bucket of tokens for each client: a request takes one, and `rate` a second come back.

    What is kept of a bucket is the time at which it is full again. The bucket that was used
    longest ago is forgotten, and thereby full, when there are too many.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._depth = burst / rate
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, client: str, now: float) -> None:
        """Take a token; `TooManyRequests` where there is none."""
        missing = max(self._full_at.get(client, now) - now, 0) + self._interval
        if missing > self._depth + ROUNDING:
            seconds = math.ceil(missing - self._depth)
            raise TooManyRequests(
                f"The client makes requests faster than it may; seconds to wait: {seconds}.",
                retry_after=seconds,
            )
        self._full_at[client] = now + missing
        self._full_at.move_to_end(client)
        if len(self._full_at) > MAX_BUCKETS:
            self._full_at.popitem(last=False)
