"""The processes of the GPU benchmark: workers that report line by line, tests, the sanitizer."""

import contextlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WARMERS = 4  # processes that fill the caches of compiled code


def environment(run: Any) -> dict[str, str]:
    """That of the processes: they find gpunet, and share the caches of compiled code."""
    cache = run.out.resolve() / "cache"
    found = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if run.options.emulate:
        found |= {"GPUNET_DEVICE": "cpu", "JAX_PLATFORMS": "cpu"}
    return os.environ | found


class Worker:
    """A process that prints one JSON object a line; it is ended when it is silent for too long.

    Attributes:
        trouble: Why it ended before it had done everything; empty if it had.
    """

    running: ClassVar[list["Worker"]] = []

    def __init__(self, run: Any, script: str, arguments: list[str]):
        command = [sys.executable, str(HERE / script), "--device", run.device]
        command += ["--quick"] if run.options.quick else []
        self.trouble = ""
        self.log = (run.out / "log.txt").open("ab")
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=self.log, env=environment(run)
        )
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        Worker.running.append(self)

    def _read(self):
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def events(self, seconds: float, until: float = float("inf")) -> Iterator[dict]:
        """Yields what it reports.

        Args:
            seconds: How long it may take from one event to the next.
            until: When it must end, on the monotonic clock.
        """
        try:
            while True:
                wait = min(seconds, until - time.monotonic())
                try:
                    line = self.lines.get(timeout=max(wait, 0.01))
                except queue.Empty:
                    late = time.monotonic() >= until
                    self.trouble = "no time was left" if late else f"silent for {seconds:.0f} s"
                    return
                if line is None:
                    status = self.process.wait()
                    self.trouble = f"ended with status {status}; see log.txt" if status else ""
                    return
                yield json.loads(line)
        finally:
            self.kill()

    def wait(self, until: float) -> None:
        """Lets it run until it ends, or until a time on the monotonic clock."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=max(until - time.monotonic(), 0.01))
        self.kill()

    def kill(self) -> None:
        """Ends the process."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join(timeout=5)
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()
        if self in Worker.running:
            Worker.running.remove(self)


def warm_up(run: Any, names: list[str]) -> list[Worker]:
    """Starts processes that compile for PyTorch and JAX while the tests run."""
    from gpu_worker import ROWS

    compiled = [n for n in names if ROWS[n].torch and ROWS[n].compiled]
    parts = [compiled[i::WARMERS] for i in range(WARMERS)]
    workers = [Worker(run, "gpu_worker.py", ["--warm", *part]) for part in parts if part]
    jax = [n for n in names if ROWS[n].jax]
    return workers + ([Worker(run, "gpu_jax.py", ["--warm", *jax])] if jax else [])


def run_tests(run: Any, seconds: float) -> dict:
    """The tests marked `cuda`; on the emulator a few rows of the kernels' own tests."""
    if run.options.emulate:
        words = ["-n", "0", "-k", "softmax and emulator", "tests/ops/test_cases.py"]
    else:
        files = sorted(
            str(path.relative_to(ROOT))
            for path in (ROOT / "tests").rglob("test_*.py")
            if "mark.cuda" in path.read_text("utf-8")
        )
        words = ["-n", "8", "-m", "cuda", *files]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return {"tests": " ".join(words)} | _counted(run, command, seconds)


def run_sanitizer(run: Any, seconds: float) -> dict:
    """`compute-sanitizer` on some kernel tests, where it is installed."""
    tool = shutil.which("compute-sanitizer")
    line = {"sanitizer": "memcheck", "summary": ""}
    if tool is None or run.options.emulate:
        return line | {"note": "not run: " + ("no GPU" if tool else "compute-sanitizer is missing")}
    if seconds < 20:
        return line | {"note": "not run: no time was left"}
    words = ["-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-m", "cuda", "-x"]
    chosen = ["-k", "test_cuda and (softmax or layer_norm or pool or sum)"]
    command = [tool, "--tool", "memcheck", "--error-exitcode", "99", sys.executable]
    return line | _counted(run, [*command, *words, *chosen, "tests/ops/test_cases.py"], seconds)


def _counted(run, command, seconds) -> dict:
    """Runs a command in the checkout; returns its status and the lines that count something."""
    log = run.out / "log.txt"
    start = time.monotonic()
    environ = environment(run) | {"GPUNET_DEVICE": "cpu"}
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=file, text=True
        )
        note = ""
        try:
            output, _ = process.communicate(timeout=max(seconds, 1))
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            note = f"ended after {seconds:.0f} s"
        file.write(output.encode())
    pattern = r"^=* ?(\d+ (?:passed|failed|error)[^=\n]*)|(ERROR SUMMARY: [^\n]*)"
    counts = [one or other for one, other in re.findall(pattern, output, re.MULTILINE)]
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    return {
        "summary": "; ".join(counts).strip(),
        "failed": failed[:40],
        "status": process.returncode,
        "seconds": round(time.monotonic() - start, 1),
        "note": note,
    }
