"""What the service is made of, looked up among known vulnerabilities, and listed."""
