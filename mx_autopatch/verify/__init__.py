"""Verifies the operators on the user's own machine and device; see ``runner``."""
