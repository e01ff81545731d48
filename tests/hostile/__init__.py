"""What hostile clients do: each is refused, or does nobody any harm."""
