"""The collector of garbage: how often it looks at the objects of a server's process."""

import gc

# Runs make many objects that live as long as a run does: fewer looks at them find as much.
THRESHOLDS = (20_000, 20, 50)
STARTING = 1_000_000  # objects; a start makes fewer, of which nearly all stay


def begin_start() -> None:
    """Look at no objects while a server starts."""
    gc.set_threshold(STARTING)


def end_start() -> None:
    """Pass over all that the start has made, also in later looks."""
    gc.freeze()
    collect_seldom()


def collect_seldom() -> None:
    """Look as often as pays while runs are executed."""
    gc.set_threshold(*THRESHOLDS)
