"""uniap: the Python interface."""
