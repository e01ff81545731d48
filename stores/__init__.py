"""The stores of runs. `stores.base` is the contract; `stores.backends` knows every store."""
