"""What depends on the processor: compiled functions and their cache, devices, worker processes."""
