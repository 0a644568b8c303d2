"""The recurrence of every cell, compiled for processors and for GPUs."""
