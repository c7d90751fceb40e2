"""Contenders in processes of their own, taking turns: round after round, each for a moment.

A busy machine, a hypervisor that takes its processors away, a clock that falls: all of it meets
neighbours in time alike. A ratio is the median of the rounds' ratios.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

from cpu_models import WORKLOADS
from cpu_worker import CONTENDERS, KERAS, serve

PREPARE_S = 150  # a contender that has not compiled after so long is left out
ROUNDS_S = 30  # rounds after the third end here: the whole run stays under 15 minutes
WORKER = Path(__file__).with_name("cpu_worker.py")


def why_missing(contender):
    """Returns why a contender cannot take part, or `None`."""
    modules = [CONTENDERS[contender][0], *(["keras"] if contender in KERAS else [])]
    missing = [module for module in modules if find_spec(module) is None]
    return f"{missing[0]} is not installed" if missing else None


class Worker:
    """The process of one contender that trains one network."""

    def __init__(self, contender, workload, data, slice_s):
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = other, contender, workload, data, slice_s
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        try:
            ready = self.connection.poll(PREPARE_S)
            answer = self.connection.recv() if ready else f"over {PREPARE_S} s to compile"
        except EOFError:
            answer = "its process ended"
        self.failure = answer if isinstance(answer, str) else None
        self.facts = {} if self.failure else answer

    def measure(self, way):
        """Returns wall and CPU seconds of a step, and the loss."""
        self.connection.send((way, self.facts["turns"][way]))
        return self.connection.recv()

    def end(self):
        if not self.failure:
            self.connection.send(None)
            self.process.join(10)
        self.process.kill()
        self.process.join()


@contextmanager
def crew(workload, contenders, slice_s):
    """Processes of all contenders, as many started at once as there are processors."""
    data = WORKLOADS[workload].data()
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        made = list(pool.map(lambda name: Worker(name, workload, data, slice_s), contenders))
    workers = dict(zip(contenders, made, strict=True))
    try:
        yield workers
    finally:
        for worker in made:
            worker.end()


def compare(workload, contenders, rounds, slice_s):
    """Measures all contenders on a workload.

    Returns:
        Dict from contender to its facts, `rounds` (seconds of a step by way and round), `CPU s`
        and `loss`; or to a text: why there are no figures.
    """
    with crew(workload, contenders, slice_s) as workers:
        running = {name: worker for name, worker in workers.items() if not worker.failure}
        counts = {name: worker.facts["parameters"] for name, worker in running.items()}
        if len(set(counts.values())) > 1:
            raise AssertionError(f"the networks of {workload} are not the same: {counts}")
        found = {name: {**w.facts, "rounds": {}, "CPU s": {}} for name, w in running.items()}
        for way in dict.fromkeys(way for w in running.values() for way in w.facts["turns"]):
            able = {name: w for name, w in running.items() if way in w.facts["turns"]}
            take_turns(way, able, found, rounds, slice_s)
    return {name: worker.failure or found[name] for name, worker in workers.items()}


def take_turns(way, workers, found, rounds, slice_s):
    """Measures one way to run; adds seconds and losses to what was found."""
    start = perf_counter()
    for turn in range(rounds):
        if turn >= 3 and perf_counter() - start > ROUNDS_S:
            return
        for name in workers if turn % 2 else reversed(workers):
            times = found[name]["rounds"].setdefault(way, {})
            if is_slow(times, slice_s) and turn % 3:
                continue
            times[turn], cpu, loss = workers[name].measure(way)
            found[name]["CPU s"].setdefault(way, []).append(cpu)
            if loss is not None:
                found[name]["loss"] = float(loss)


def is_slow(times, slice_s):
    """Tells whether single steps take so long that some rounds go without."""
    return bool(times) and max(times.values()) > 4 * slice_s


def ratio(ours, theirs):
    """Returns the median of the ratios in rounds in which both took part."""
    both = ours.keys() & theirs.keys()
    return median(ours[turn] / theirs[turn] for turn in both) if both else None


# -------------------------------------------------------------------------------- whole processes


def first_step_seconds(contender, environment=()):
    """Seconds from the start of a process to the end of its first training step of the MLP."""
    environment = {**os.environ, **dict(environment)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have bytecode caches
    start = perf_counter()
    command = [sys.executable, str(WORKER), "first", contender]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        line = process.stdout.readline()
        seconds = perf_counter() - start
        process.stdout.read()
    if line.strip() != b"done":
        raise RuntimeError(f"the first step of {contender} failed")
    return seconds


def first_steps(rounds, contenders):
    """Returns for each contender its seconds; gpunet takes part twice, its cache cold and warm."""
    cases = [("gpunet, cold cache", "gpunet"), *[(name, name) for name in contenders]]
    seconds = {case: [] for case, _ in cases}
    for turn in range(-1 if rounds > 1 else 0, rounds):  # the first turn writes bytecode
        with tempfile.TemporaryDirectory() as folder:  # empty for the first case, not the second
            for case, name in cases:
                value = first_step_seconds(name, {"GPUNET_CACHE_DIR": folder})
                seconds[case] += [value] * (turn >= 0)
    return seconds


def planning_seconds(workload):
    """Seconds that gpunet needs to trace and to plan a training step."""
    command = [sys.executable, str(WORKER), "planning", workload]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
