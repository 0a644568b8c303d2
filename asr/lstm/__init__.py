"""The LSTM family: recurrent stacks in one or both directions, exact for padded batches.

`cells` has the equations. Every cell has a readable form, which also shows its gates (`trace`);
most have a faster one, which `forward` chooses.
"""

from asr.lstm.cell import Cell, State, TorchCell, Trace
from asr.lstm.cells import CELLS
from asr.lstm.layer import RecurrentLayer, RecurrentStack

__all__ = ["CELLS", "Cell", "RecurrentLayer", "RecurrentStack", "State", "TorchCell", "Trace"]
