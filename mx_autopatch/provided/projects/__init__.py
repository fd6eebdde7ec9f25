"""The compiled modules that projects keep in their own tree."""
