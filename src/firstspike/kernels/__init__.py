"""Compute kernels: a slow reference and a fast form of each operation, behind one name each."""
