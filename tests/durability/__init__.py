"""What must survive: crashes, failing stores, restarts and releases."""
