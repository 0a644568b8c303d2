"""Processes that read audio for the one that trains."""

import signal


def ignore_signals(number: int = 0) -> None:
    """In worker `number`: a signal to all processes of a job is for the one that trains.

    Workers end when that one does.
    """
    for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)
