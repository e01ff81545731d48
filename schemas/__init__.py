"""The shapes at the service's two boundaries: HTTP (what clients see) and the store (records)."""
