"""The shapes at the service's two boundaries: HTTP (what clients see) and the store (records)."""

if __name__ == "schemas":
    # Found by the folder's own name: from the root of a clone.
    from workflow_server.former_names import take_over

    take_over(__name__)
