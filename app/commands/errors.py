"""The error of a command that cannot be carried out."""


class UsageError(Exception):
    """The command cannot be carried out as it was given; the sentence says what to give."""
