"""The parts of training: learners, their schedule, the run directory."""
