"""Features: `frames` of one utterance in numpy, and `layer`, the same in batches for training."""
