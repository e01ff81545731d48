"""The collector of garbage: how often it looks at the objects of a server's process."""

import gc

# Runs make many objects that live as long as a run does: fewer looks at them find as much.
THRESHOLDS = (20_000, 20, 50)
IMPORTING = 1_000_000  # objects; our own modules make fewer, of which nearly all stay


def begin_start() -> None:
    """Look at no objects while our own modules are imported."""
    gc.set_threshold(IMPORTING)


def collect_seldom() -> None:
    """Look as often as pays while runs are executed."""
    gc.set_threshold(*THRESHOLDS)
