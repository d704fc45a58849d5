"""The conformance kit for plugin authors (extra ``testing``): built-in plugins are held to exactly this."""
