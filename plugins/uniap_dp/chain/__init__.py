"""Short chains, with or without skip edges, in one compiled pass."""
