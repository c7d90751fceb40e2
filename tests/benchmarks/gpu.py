"""Benchmark on a GPU: every hot op against what the machine can do, PyTorch and JAX, in one call.

    python tests/benchmarks/gpu.py --out DIR               # at most nine minutes
    python tests/benchmarks/gpu.py --emulate --quick       # the whole script without a GPU
    python tests/benchmarks/gpu.py --record DIR/gpu.json   # figures into results/, README, kernels

    python tests/benchmarks/gpu.py --models mlp,cnn,lstm,resnet --out DIR   # training steps, and
    python tests/benchmarks/gpu.py --models gpt --out OTHER                 # the rest of them
    python tests/benchmarks/gpu.py --models all --emulate --quick           # tiny, without a GPU

Environment, tests marked `cuda`, ceilings, the rows of `gpu_table.py` and `gpu_table_compute.py`,
JAX, `compute-sanitizer`, the ceilings again, and a short table. A result is compared with float64
before it is timed: a wrong kernel gets no figure. `gpu.json` is written after every row. What is
missing (a library, a tool, the time) is recorded as missing.

With `--models`, training steps of the networks of `gpu_models.py` instead: gpunet, PyTorch (eager,
compile, a CUDA graph) and JAX one after the other, each in a process of its own, and gpunet again
at the end. Networks recorded earlier keep their figures.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gpu_environment
import gpu_report
import record
from gpu_models import AGAIN, CONTENDERS, NETWORKS
from gpu_processes import Worker, run_sanitizer, run_tests, warm_up
from gpu_worker import ROWS

OUT = Path(tempfile.gettempdir()) / "gpunet-gpu-benchmark"
HARD_STOP = 15  # seconds after the minutes given
SECONDS_A_ROW = 45  # a row that takes longer hangs, or compiles without end


class Run:
    """One call of the script: its options, its clock, and the report so far."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.started = time.monotonic()
        self.device = "emulator" if options.emulate else "cuda:0"
        self.out = options.out
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "ceilings.json").unlink(missing_ok=True)  # those of an earlier run
        self.report: dict = {"device": self.device, "quick": options.quick, "parts": {}}
        self.lock = threading.RLock()

    @property
    def left(self) -> float:
        """Seconds until the minutes are over."""
        return self.options.minutes * 60 - (time.monotonic() - self.started)

    def until(self, reserve: float) -> float:
        """The moment, on the monotonic clock, that leaves `reserve` seconds of the minutes."""
        return time.monotonic() + self.left - reserve

    def add(self, part: str, rows: list) -> None:
        """Puts a part into the report, and the report into its file."""
        with self.lock:
            if part not in self.report["parts"] and not self.options.emulate:
                self.report.setdefault("states", {})[part] = gpu_environment.state()
            self.report["parts"][part] = rows
            record.write_json(self.out / "gpu.json", self.report)

    def note(self, text: str) -> None:
        """Says where the script is."""
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)


def main() -> int:
    """Runs the benchmark; returns 0 if all of it was done and no result was wrong."""
    options = parse()
    if options.record:
        return gpu_report.record_figures(options.record)
    run = Run(options)
    stop = threading.Timer(options.minutes * 60 + HARD_STOP, hard_stop, [run])
    stop.daemon = True
    stop.start()
    try:
        return benchmark(run)
    finally:
        stop.cancel()


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=9.0, help="default: %(default)s")
    parser.add_argument("--emulate", action="store_true", help="on the emulator; nothing is timed")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, few tests")
    parser.add_argument("--only", default="", help="rows whose name holds one of these, a|b")
    parser.add_argument("--skip", default="", help="parts left out: tests,warm,jax,sanitizer,end")
    parser.add_argument("--models", type=names_of(NETWORKS), help="instead: all, or some of a,b")
    parser.add_argument("--contenders", type=names_of(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--commit", help="what is measured, where there is no checkout")
    parser.add_argument("--record", type=Path, help="a gpu.json; nothing is measured")
    options = parser.parse_args()
    if options.emulate and not options.quick:
        parser.error("the emulator needs --quick: the sizes of a GPU would take it days")
    return options


def names_of(known: dict) -> Callable[[str], list[str]]:
    """What reads a list of names from the command line."""

    def names(text):
        found = list(known) if text == "all" else text.split(",")
        if unknown := set(found) - set(known):
            wanted = ", ".join(known)
            raise argparse.ArgumentTypeError(f"expected some of {wanted}. Received: {unknown}")
        return found

    return names


def benchmark(run: Run) -> int:
    """All parts, in order of their worth."""
    options = run.options
    run.report |= record.circumstances(device_name(run), options.commit)
    run.report["environment"] = gpu_environment.circumstances(run.report["commit"])
    if options.models:
        measure_models(run)
        return finish(run)
    names = [n for n in ROWS if any(part in n for part in options.only.split("|"))]
    names.sort(key=lambda name: ROWS[name].target is None)  # those with a target come first
    skipped = options.skip.split(",")
    warm = warm_up(run, names) if "warm" not in skipped and not options.emulate else []
    if "tests" not in skipped:
        run.note("tests")
        run.add("tests", [run_tests(run, seconds=min(150, run.left - 300))])
    for process in warm:  # nothing may disturb the clock from here on
        process.wait(until=run.started + 110)
    measure_ceilings(run, "ceilings")
    measure_rows(run, names)
    if "jax" not in skipped:
        measure_jax(run, [n for n in names if ROWS[n].jax])
    if "sanitizer" not in skipped:
        run.note("compute-sanitizer")
        run.add("sanitizer", [run_sanitizer(run, seconds=run.left - 30)])
    if "end" not in skipped:
        measure_ceilings(run, "ceilings at the end")
    return finish(run)


def device_name(run: Run) -> str:
    """What the report calls the machine."""
    return "emulator" if run.options.emulate else gpu_environment.state().get("name", "CUDA")


def measure_ceilings(run: Run, part: str) -> None:
    """The ceilings; without them, rows have times but no shares."""
    run.note(part)
    worker = Worker(run, "gpu_worker.py", ["--ceilings"])
    rows: list = []
    for event in worker.events(seconds=min(60, run.left)):
        rows = event.get("ceilings", rows)
    run.add(part, rows or [{"ceiling": worker.trouble, "bytes": 0, "GB/s": None}])
    if rows and part == "ceilings":
        record.write_json(run.out / "ceilings.json", rows)


def measure_rows(run: Run, names: list[str]) -> None:
    """Every row; a new process takes over where one is lost, and its row is recorded as lost."""
    lines: list[dict] = []
    left = list(names)
    known = run.out / "ceilings.json"
    while left and run.left > 100:
        extra = ["--known", str(known)] if known.exists() else []
        worker = Worker(run, "gpu_worker.py", [*extra, *left])
        begun = None
        for event in worker.events(seconds=SECONDS_A_ROW, until=run.until(reserve=100)):
            begun = event.get("begin", begun)
            if "row" in event:
                lines.append(event["row"])
                left.remove(event["row"]["op"])
                begun = None
                run.add("ops", lines)
                run.note(gpu_report.short(event["row"]))
        if begun:
            lines.append(gpu_report.lost(ROWS[begun], run.options.quick, worker.trouble))
            left.remove(begun)
        elif worker.trouble and left:
            lines.append(gpu_report.lost(ROWS[left.pop(0)], run.options.quick, worker.trouble))
        run.add("ops", lines)
    lines += [gpu_report.lost(ROWS[n], run.options.quick, "no time was left") for n in left]
    run.add("ops", lines)


def measure_jax(run: Run, names: list[str]) -> None:
    """JAX's times go into the rows they belong to."""
    lines = {line["op"]: line for line in run.report["parts"].get("ops", [])}
    found: dict[str, dict] = {}
    run.note("JAX")
    worker = Worker(run, "gpu_jax.py", names) if names else None
    for event in (
        worker.events(seconds=SECONDS_A_ROW, until=run.until(reserve=45)) if worker else ()
    ):
        if "jax" in event:
            found[event.pop("jax")] = event
    for name in names:
        missing = {"us": None, "note": (worker and worker.trouble) or "no time was left"}
        rival = found.get(name, missing)
        own = lines[name]["us"]
        if own and rival["us"]:
            rival["ratio"] = rival["us"] / own
        lines[name]["details"].setdefault("rivals", {})["JAX"] = rival
    run.add("ops", list(lines.values()))


def measure_models(run: Run) -> None:
    """Training steps, network by network; of the tiny ones all by one process a contender."""
    options, found = run.options, {name: {} for name in run.options.models}
    able = [c for c in CONTENDERS if not options.emulate or "CUDA" not in c]
    contenders = [c for c in able if c in options.contenders]
    contenders += [] if options.quick or "gpunet" not in contenders else [AGAIN]
    for group in [options.models] if options.quick else [[name] for name in options.models]:
        for contender in contenders:
            known = "gpunet" if contender == AGAIN else contender
            worker = Worker(run, "gpu_models.py", [known, *group])
            seconds = sum(NETWORKS[name].limit for name in group)
            until = min(run.until(reserve=5), time.monotonic() + seconds)
            for event in worker.events(seconds=seconds, until=until):
                if "facts" in event:
                    found[event["network"]][contender] = event["facts"]
            for name in group:
                lost = {"ms": None, "note": worker.trouble or "nothing was said"}
                facts = found[name].setdefault(contender, lost)
                run.note(f"{name}: {gpu_report.short_model(contender, facts)}")
            run.add("models", gpu_report.model_rows(found))


def finish(run: Run) -> int:
    """Prints the table; returns 1 if a row is wrong or failed."""
    text = gpu_report.summary(run.report)
    (run.out / "gpu.md").write_text(text, "utf-8")
    print(text, flush=True)
    return 1 if gpu_report.failures(run.report) else 0


def hard_stop(run: Run) -> None:
    """Ends the script where it is: the report holds every row done."""
    with run.lock:
        print("\nThe time is over.", flush=True)
        finish(run)
        for worker in list(Worker.running):
            worker.kill()
        os._exit(2)


if __name__ == "__main__":
    sys.exit(main())
