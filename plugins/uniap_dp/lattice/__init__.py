"""Any graph, over the lattice of its downsets: stage bounds, stage tables, and the program over stages."""
