"""From a config to a minimal package that trains without the library it came from.

All of it is read from sources: no module of the exported packages is imported, and no
model, data set or hook is made.
"""
