"""Solving one problem: the request, the plugin contract, the driver that never believes, the result.

``driver.solve`` is the door; ``result.to_file`` and ``result.from_file`` write and read the answers.
"""
