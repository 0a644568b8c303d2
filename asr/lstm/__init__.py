"""The LSTM family: recurrent stacks in one or both directions, exact for padded batches.

`cells` has the equations. Every cell has a readable form, which also shows its gates (`trace`);
most have a faster one, which `forward` chooses. `inference` runs trained stacks without torch.
"""
