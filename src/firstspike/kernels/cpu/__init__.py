"""The kernels for the processor, compiled with Numba; numpy arrays in and out."""
