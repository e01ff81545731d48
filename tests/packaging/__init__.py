"""The distributions, and how they are made."""
