"""Version of the baselines, for results."""

VERSION = "1"
