"""Worker processes of a pool."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """In a worker: exit when its parent was killed, which leaves workers waiting for ever."""
    if parent := multiprocessing.parent_process():

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()
