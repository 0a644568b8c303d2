"""The static page beside `asr transcribe`: the same phones, size, seconds to a result, memory.

    make page
    taskset -c 0 python recipes/browser/measure.py dist recordings/*.wav

All of it runs on the cores that this process may use, the browser too, and each file is transcribed
by both in turn. Needs Chromium and playwright.
"""

import argparse
import base64
import functools
import gzip
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from asr import transcriber
from asr.errors import DataError, exit_code

PARTS = {  # what the name of a file begins with
    "n-gram": ("model/ngram",),
    "network": ("model/network",),
    "onnxruntime-web": ("runtime/",),
    "engine": ("engine/", "model/about", "onnx_engine", "main", "served"),
    "viewer": ("",),
}
TRANSCRIBE = """async ([name, base64]) => {
    const engine = globalThis.viewer.engine;
    const content = new Blob([Uint8Array.from(atob(base64), (one) => one.charCodeAt(0))]);
    const begin = performance.now();
    const sound = await engine.open({ name, blob: content });
    const result = await engine.transcribe(sound, { symbols: null });
    return { phones: result.phones, seconds: (performance.now() - begin) / 1000 };
}"""


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def sizes(folder: Path) -> Iterator[str]:
    """Of each part, and what a server that compresses would send."""
    raw, sent = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            part = next(key for key, begins in PARTS.items() if name.startswith(begins))
            raw[part] += path.stat().st_size
            compressed = len(gzip.compress(path.read_bytes()))
            sent[part] += min(compressed, path.stat().st_size)
    for part in PARTS:
        yield f"{part:16} {raw[part] / 1e6:6.2f} MB, {sent[part] / 1e6:6.2f} MB with gzip"
    total, over_gzip = sum(raw.values()), sum(sent.values())
    yield f"{'all':16} {total / 1e6:6.2f} MB, {over_gzip / 1e6:6.2f} MB with gzip"


def started_by(above: int) -> Iterator[Path]:
    """The folders in /proc of all processes below one."""
    of_parent: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = status.read_text().rpartition(")")[2].split()
            of_parent.setdefault(int(fields[1]), []).append(int(status.parent.name))
    waiting = [above]
    while waiting:
        below = of_parent.get(waiting.pop(), [])
        waiting += below
        yield from (Path(f"/proc/{process}") for process in below)


def memory_mb() -> float:
    """Proportional memory of the largest process that this one started, a page, in MB."""
    largest = 0
    for process in started_by(os.getpid()):
        with suppress(OSError):
            pss = re.search(r"^Pss:\s+(\d+)", (process / "smaps_rollup").read_text(), re.MULTILINE)
            largest = max(largest, int(pss[1]) if pss else 0)
    return largest / 1024


def cpu_s() -> float:
    """CPU time of all processes that this one started and that are still there."""
    ticks = 0
    for process in started_by(os.getpid()):
        with suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, files: list[Path]) -> Iterator[str]:
    yield from sizes(folder)
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    recogniser = transcriber.load()
    recogniser.transcribe_file(files[0], lambda _: None)  # compiles
    begin, cpu = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-m", "asr", "transcribe", files[0]], capture_output=True)
    ended = os.times()
    own_s = ended.children_user + ended.children_system - cpu.children_user - cpu.children_system
    yield f"asr transcribe {files[0].name}: {time.perf_counter() - begin:.1f} s, CPU {own_s:.1f} s"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        before = memory_mb()
        begin, cpu_before_s = time.perf_counter(), cpu_s()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.evaluate("() => globalThis.viewer.ready")
        loaded_s, loaded_cpu_s = time.perf_counter() - begin, cpu_s() - cpu_before_s
        page.set_input_files("#file", files[0])
        page.wait_for_function("() => globalThis.viewer.result", timeout=120_000)
        first_s, first_cpu_s = time.perf_counter() - begin, cpu_s() - cpu_before_s
        yield f"cores: {len(os.sched_getaffinity(0))}"
        yield f"from the address to the loaded model: {loaded_s:.1f} s, CPU {loaded_cpu_s:.1f} s"
        yield f"from the address to its phones: {first_s:.1f} s, CPU {first_cpu_s:.1f} s"
        same, timed, differ = 0, 0, []
        spent, page_s, python_s = 0.0, 0.0, 0.0
        for path in files:
            result = transcribed(page, path)
            begin = time.perf_counter()
            transcript = recogniser.transcribe_file(path, lambda _: None)
            python_s += time.perf_counter() - begin
            page_s += result["seconds"]
            spent += transcript.duration_s
            phones = [one._asdict() for one in transcript.phones]
            names = [[one["phone"] for one in each] for each in (phones, result["phones"])]
            same += names[0] == names[1]
            timed += phones == result["phones"]
            if names[0] != names[1]:
                differ.append(path.name)
        yield (
            f"{same} of {len(files)} files have the same phones, "
            f"{timed} of them equal times and confidences"
        )
        if differ:
            yield f"others: {', '.join(differ)}"
        yield (
            f"{spent:.0f} s of speech, time for a second of it: {page_s / spent:.4f} s, "
            f"the program {python_s / spent:.4f} s, ratio {page_s / python_s:.2f}"
        )
        after = memory_mb()
        yield f"memory of the page: {after:.0f} MB, of an empty one {before:.0f} MB"
        browser.close()


def transcribed(page: Any, path: Path) -> Any:
    return page.evaluate(TRANSCRIBE, [path.name, base64.b64encode(path.read_bytes()).decode()])


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path, help="folder that `make page` wrote")
    parser.add_argument("files", type=Path, nargs="+", help="recordings")
    options = parser.parse_args()
    if not (options.page / "model" / "about.json").is_file():
        raise DataError(f"{options.page}: no page; make one with `make page`")
    for line in measure(options.page, options.files):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
