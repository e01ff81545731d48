"""The server of `llama-index-workflows` 2.11.1, and ours, asked the same requests."""
