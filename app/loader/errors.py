"""The error of loading users' files."""


class LoadError(Exception):
    """A source cannot be served; the sentence names it and the fix."""
