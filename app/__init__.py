"""The service: handlers, runs, and all that carries them."""

if __name__ == "app":
    # Found by the folder's own name: from the root of a clone.
    from workflow_server.former_names import take_over

    take_over(__name__)
