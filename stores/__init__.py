"""Where runs are kept. `stores.base` is the contract; `stores.backends` knows every store."""
