"""``python -m uniap_core``."""

from .entry import main

main()
