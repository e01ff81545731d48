"""What the service costs, beside a peer and the bare engine: `python -m benchmarks --quick`."""
