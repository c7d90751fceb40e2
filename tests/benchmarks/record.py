"""What every benchmark writes down beside its figures: where, when and with which versions."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"
LIBRARIES = ["gpunet", "numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "keras"]


def processor():
    """The CPU's name; `platform.processor` does not know it on Linux."""
    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in names if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit():
    """The commit that was measured, with `+` when the checkout held changes beside it."""

    def git(*words):
        command = ["git", "-C", str(RESULTS.parent), *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")


def versions():
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def save(name, results, device=None):
    """Merges results into `results/<name>.json`, one entry a part, each with its circumstances.

    Parts that were not measured this time keep the figures, date and commit they had.
    """
    path = RESULTS / f"{name}.json"
    parts = json.loads(path.read_text("utf-8")) if path.exists() else {}
    circumstances = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": device or f"{processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }
    parts.update({part: {**circumstances, "results": rows} for part, rows in results.items()})
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(parts, indent=1) + "\n", "utf-8")
    text = README.read_text("utf-8")
    README.write_text(with_tables(text), "utf-8")
    return path


def with_tables(text):
    """Returns the README's text with the tables of all results between its two marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + tables() + END + rest.split(END)[1]


def tables():
    """The figures in `results/`, as Markdown."""
    lines = []
    for path in sorted(RESULTS.glob("*.json")):
        for part, measured in json.loads(path.read_text("utf-8")).items():
            command = f"python tests/benchmarks/{path.stem}.py {part}"
            where = f"{measured['device']}, {measured['date'][:10]}, commit {measured['commit']}"
            lines += ["", f"`{command}` ({where})", ""]
            heads, *rows = table(measured["results"])
            lines += ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
            lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", ""])


def table(rows):
    """Rows, dicts with equal keys, as lists of text; the first holds the keys."""
    return [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]


def show(title, rows):
    """Prints rows, dicts with equal keys, as a table."""
    lines = table(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  " + "  ".join([first.ljust(widths[0]), *cells]))


def _text(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)
