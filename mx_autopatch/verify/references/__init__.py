"""What the operators compute, written as plainly as possible: loops over boxes and pixels.

Each function has the name and the parameters of the operator in ``mx_autopatch.ops``, takes
float64 tensors on the CPU, and is differentiated by torch where the operator has gradients.
Nothing of ``mx_autopatch.ops`` is used, so that both cannot have the same error. ``verify``
compares the operators with them, and so do the tests.
"""
