"""The thread that signals interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def away() -> Iterator[None]:
    """While this is open, signals with a handler interrupt a thread that computes nothing.

    Handlers of Python run in the main thread, as always, between two instructions of Python. But
    first the system writes to the stack of the thread that a signal interrupts, and in products of
    oneDNN before 3.12 (torch 2.11 has 3.10) that "stack" is in the heap, which is then damaged
    (github.com/uxlfoundation/oneDNN/issues/4845). Threads that start within this, as those of
    OpenMP do with the first product, are not interrupted either.
    """
    handled = {one for one in signal.valid_signals() if callable(signal.getsignal(one))}
    handled.add(signal.SIGCHLD)  # which a loader with workers handles later
    is_ready, is_over = threading.Event(), threading.Event()

    def wait() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
        is_ready.set()
        is_over.wait()

    thread = threading.Thread(target=wait, name="signals", daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    try:
        thread.start()
        is_ready.wait()
        yield
    finally:
        is_over.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
