"""The engine: finds triggers, applies edits, says what happened.

It knows no patch, no torch and no OpenMMLab, and nothing here is imported before
it is needed: an active engine that has met no target costs one finder.
"""
