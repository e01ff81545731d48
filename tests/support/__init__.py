"""What tests share: a live server, workflows of every kind, readers of streams."""
