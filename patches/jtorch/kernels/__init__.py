"""Hand-written kernels: one C++ source per kernel, loaded through ``jt.code``, and the Python that calls it."""
