"""The causal kernels for CUDA devices, written in Triton; torch tensors in and out.

The same operations as those of `firstspike.kernels.cpu`, by the same names: spike times are equal to
the bit, since every membrane receives the same float32 additions in the same order; gradients are equal
to rounding. Nothing is added atomically, so the same call gives the same bits again.

Half precision is not used: a membrane rounded to 11 bits crosses its threshold at another step, and
half-precision times are whole only up to step 2048.
"""
