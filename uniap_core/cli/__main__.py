"""``python -m uniap_core.cli``."""

from . import main

main()
