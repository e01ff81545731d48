"""Tests of the benchmark's own measuring: what it reads, checks and refuses to say."""
