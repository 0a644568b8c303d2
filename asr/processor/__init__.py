"""What depends on the processor: compiled functions and where they are kept."""
