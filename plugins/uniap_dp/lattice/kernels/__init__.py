"""The compiled loops of the lattice."""
