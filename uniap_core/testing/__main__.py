"""``python -m uniap_core.testing``: make a case of a problem file."""

from .corpus import main

main()
