"""Inputs that nobody would send: a short form runs with the tests, `make fuzz` tries a million."""
