"""OpenMMLab registries: what they are, what they hold, and why a name is not in one.

``static`` reads the sources of packages, ``live`` looks at the objects of this process;
neither keeps a table of names. ``search`` and ``explain`` answer from both.
"""
