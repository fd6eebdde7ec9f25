"""Patches of operators that projects keep in their own tree."""
