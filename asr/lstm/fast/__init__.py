"""A layer's recurrence, compiled for processors and GPUs, and the choice of the fastest form."""
