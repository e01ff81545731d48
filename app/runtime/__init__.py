"""The seam to the engine: the only package that touches its runtime and private names."""
