"""One file per family: how its configurations are read, and what is published of its models."""
