"""The tables of the CPU benchmark, and whether its targets are met."""

from statistics import median

from cpu_models import WORKLOADS
from cpu_rounds import ratio
from cpu_worker import KERAS

TORCH = ["PyTorch eager", "PyTorch best"]
ALL_KERAS = "every Keras"

# Workload, way, peers, and the most that gpunet's time may be of theirs.
TIME_TARGETS = [
    ("digits", "fit", "PyTorch eager", 0.2),
    ("digits", "fit", "Keras JAX", 0.5),
    ("mlp", "step", "PyTorch best", 1.0),
    ("lenet", "step", "PyTorch best", 0.85),
    ("lenet", "fit", "Keras TensorFlow", 0.85),
    ("resnet", "step", "PyTorch eager", 1.0),
    ("resnet", "fit", ALL_KERAS, 0.8),
    ("gpt", "step", "PyTorch best", 1.0),
    ("lstm", "step", "PyTorch eager", 1.3),
    ("lstm", "fit", ALL_KERAS, 0.8),
]
PLANNING_TARGET_S = 1.0
FIRST_STEP_TARGET = 0.25  # of the fastest Keras backend


def lines(measured, ways):
    """Workloads and ways that were measured, in order."""
    return [
        (name, way)
        for name, results in measured.items()
        for way in ways
        if any(rounds_of(found, way) for found in results.values())
    ]


def time_rows(measured, ways):
    """A line for each workload: ms a step and, in brackets, gpunet's time divided by it."""
    rows = []
    for name, way in lines(measured, ways):
        results = measured[name]
        row = {"ms (gpunet / peer)": f"{WORKLOADS[name].title}: {way}"}
        details = {}
        ours = rounds_of(results.get("gpunet"), way)
        for contender, found in results.items():
            times = rounds_of(found, way)
            if not times:
                row[contender] = found if isinstance(found, str) else "-"
                continue
            value = median(times.values()) * 1e3
            share = ratio(ours, times) if contender != "gpunet" else None
            row[contender] = f"{value:.3g}" + (f" ({share:.2f})" if share else "")
            details[contender] = {
                "median ms": value,
                "best ms": min(times.values()) * 1e3,
                "CPU ms": median(found["CPU s"][way]) * 1e3,
                "ratio": share,
                "rounds": len(times),
                "steps a round": found["turns"][way],
                "loss": found.get("loss"),
            }
        rows.append({**row, "details": details})
    return rows


def rounds_of(found, way):
    return found["rounds"].get(way, {}) if isinstance(found, dict) else {}


def memory_rows(measured):
    """A line for each workload: the peak of the whole process that trains it."""
    rows = []
    for name, results in measured.items():
        row = {"peak MB of training": WORKLOADS[name].title}
        for contender, found in results.items():
            row[contender] = f"{found['peak MB']:.0f}" if isinstance(found, dict) else found
        rows.append(row)
    return rows


def first_step_rows(seconds):
    """A line for each contender."""
    ours = median(seconds["gpunet"])
    return [
        {
            "first step of the MLP": name,
            "median s": median(values),
            "best s": min(values),
            "gpunet / peer": None if name.startswith("gpunet") else ours / median(values),
        }
        for name, values in seconds.items()
    ]


# ---------------------------------------------------------------------------------------- targets


def target_rows(measured, seconds=None, planned=None):
    """A line for each target: what was measured, and by how much it is missed."""
    rows = []
    for name, way, peer, limit in TIME_TARGETS:
        rows += [time_target(measured[name], name, way, peer, limit)] if name in measured else []
    for name, results in measured.items():
        rows.append(memory_target(name, results))
    if planned and "resnet" in planned:
        title = "ResNet-20: tracing and planning, s"
        rows.append(verdict(title, planned["resnet"], PLANNING_TARGET_S))
    if seconds:
        rows.append(first_step_target(seconds))
    return rows


def time_target(results, name, way, peer, limit):
    ours = rounds_of(results.get("gpunet"), way)
    peers = KERAS if peer == ALL_KERAS else [peer]
    ratios = {p: ratio(ours, rounds_of(results.get(p), way)) for p in peers}
    ratios = {p: value for p, value in ratios.items() if value is not None}
    worst = max(ratios, key=lambda p: ratios[p]) if ratios else peer
    named = f"{peer}, {worst}" if peer == ALL_KERAS and ratios else peer
    title = f"{WORKLOADS[name].title.split(',')[0]}, {way}: time / {named}"
    return verdict(title, ratios.get(worst), limit)


def memory_target(name, results):
    peaks = {p: results[p]["peak MB"] for p in TORCH if isinstance(results.get(p), dict)}
    ours = results.get("gpunet")
    value = ours["peak MB"] / min(peaks.values()) if peaks and isinstance(ours, dict) else None
    return verdict(f"{WORKLOADS[name].title.split(',')[0]}: peak memory / PyTorch", value, 1.0)


def first_step_target(seconds):
    keras = {name: median(seconds[name]) for name in KERAS if name in seconds}
    fastest = min(keras, key=lambda name: keras[name]) if keras else "every Keras"
    value = median(seconds["gpunet"]) / keras[fastest] if keras else None
    return verdict(f"first step of the MLP: time / {fastest}", value, FIRST_STEP_TARGET)


def verdict(title, value, limit):
    if value is None:
        said = "not measured: the peer is missing"
    elif value <= limit:
        said = "met"
    else:
        said = f"missed by {value / limit - 1:.0%}"
    return {"target": title, "measured": value, "at most": limit, "verdict": said}
