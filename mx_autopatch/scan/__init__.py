"""What of a CUDA-written source tree the patches take care of, and what they do not.

Read from syntax trees; nothing is imported, neither of the tree nor of torch.
"""
