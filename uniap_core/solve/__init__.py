"""Solving one problem: the request, the plugin contract, the driver that never believes, the result."""
