"""What goes wrong while users' files are loaded."""


class LoadError(Exception):
    """A source cannot be served; the sentence names it and the mend."""
