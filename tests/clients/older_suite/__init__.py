"""The older server's own tests, as they were published, on this server."""
