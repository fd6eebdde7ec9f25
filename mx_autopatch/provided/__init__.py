"""The content of modules that patches provide where the real ones are not installed.

None of them is imported under its own name here; see model.Provide.
"""
