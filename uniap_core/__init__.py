"""uniap core."""
