"""Patterns of origins: regular expressions that take time in proportion to what they look at.

Python's own engine tries every way to fit, which a header of a few dozen characters can make
longer than anybody waits, so RE2 matches them.
"""

from collections.abc import Callable
from functools import lru_cache

MAX_ORIGIN = 512  # characters: a host name has 253 at most (RFC 1035, section 2.3.4)

Fits = Callable[[str], object]


@lru_cache(maxsize=16)
def compile_origin_pattern(pattern: str) -> Fits:
    """Return what says whether a whole origin fits; ValueError for a pattern that RE2 has not.

    Those are wrong ones, ones that look around or back, and ones that are too large.
    """
    import re2  # type: ignore[import-untyped]  # most servers have no pattern

    options = re2.Options()
    options.log_errors = False
    try:
        fits: Fits = re2.compile(pattern, options).fullmatch
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(said) from None
    return fits
