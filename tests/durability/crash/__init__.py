"""Kill a real server at random instants, and hold it to everything that its clients saw.

`python -m tests.durability.crash --seconds 600 --store sqlite --seed 7` runs the long form.
"""
