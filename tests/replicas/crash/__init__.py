"""Disturb three real servers at random, and hold them to everything that their clients saw.

`python -m tests.replicas.crash --seconds 600 --seed 7` runs the long form.
"""
