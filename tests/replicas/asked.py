"""A workflow that asks one question after the other, as a file that several servers serve."""

from tests.support.workflows import Asker

asker = Asker(timeout=None)
