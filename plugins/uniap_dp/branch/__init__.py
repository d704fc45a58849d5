"""Small graphs of any shape, by depth-first search."""
