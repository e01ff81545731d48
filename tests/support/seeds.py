"""Seed of the requests that schemathesis makes, which the header of pytest shows."""

import os

SEED = int(os.environ.get("SCHEMATHESIS_SEED", "1"))
