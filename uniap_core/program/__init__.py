"""The mathematical program that MIP backends take, and the lowerings that lead to it."""
