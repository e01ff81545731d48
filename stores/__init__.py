"""The stores of runs. `stores.base` is the contract; `stores.backends` knows every store."""

if __name__ == "stores":
    # Found by the folder's own name: from the root of a clone.
    from workflow_server.former_names import take_over

    take_over(__name__)
