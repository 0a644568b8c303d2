"""Worker processes of a pool."""

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """In a worker: exit when its parent was killed, which leaves workers waiting for ever."""
    if parent := multiprocessing.parent_process():

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def ignore_signals(number: int = 0) -> None:
    """In worker `number` of a loader: a signal to all processes of a job is for the main one.

    SIGTERM that the main process itself sends, as multiprocessing does at its end, ends the worker.
    """
    for one in (signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)
    parent, term = os.getppid(), [signal.SIGTERM]
    if not hasattr(signal, "sigwaitinfo"):  # macOS: the sender is unknown
        signal.pthread_sigmask(signal.SIG_UNBLOCK, term)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, term)

    def wait() -> None:
        while signal.sigwaitinfo(term).si_pid != parent:
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
