"""The soft NPU: the real torch_npu over a CANN runtime whose device memory is host memory.

``runtime.load()`` puts a stand-in for CANN in place before torch is imported (``cann.c``,
``names.py``, ``build.py``); ``install.install()`` then replaces torch_npu's kernels by ones
that let the CPU compute on the same memory (``alias.py``, ``kernels.py``, ``aten/``,
``npu/``), and its collectives by Gloo's (``hccl.py``). ``contract.py`` and ``rehearse.py``
look at what a program asks of the device.

What it cannot show: speed, memory formats, the precision of real kernels.
"""
