"""What every benchmark writes down beside its figures: where, when and with which versions."""

import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"
LIBRARIES = ["gpunet", "numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "keras"]
LIBRARIES += ["tensorflow-cpu"]


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

    if shutil.which("git") is None or not git("rev-parse", "HEAD"):
        return "unknown"
    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")


def versions():
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def circumstances(device=None, measured_commit=None):
    """When, where and with what a measurement is made."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": measured_commit or commit(),
        "device": device or f"{processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }


def write_json(path, value):
    """Writes a file whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    part.replace(path)


def save(name, results, measured=None):
    """Merges results into `results/<name>.json`, one entry a part, each with its circumstances.

    Parts that were not measured this time keep the figures, date and commit they had.
    """
    path = RESULTS / f"{name}.json"
    parts = json.loads(path.read_text("utf-8")) if path.exists() else {}
    measured = measured or circumstances()
    parts.update({part: {**measured, "results": rows} for part, rows in results.items()})
    RESULTS.mkdir(exist_ok=True)
    write_json(path, parts)
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
            default = f"python tests/benchmarks/{path.stem}.py {part}"
            command = measured.get("command", default)
            where = f"{measured['device']}, {measured['date'][:10]}, commit {measured['commit']}"
            lines += ["", f"`{command}` ({where})", ""]
            heads, *rows = table(measured["results"])
            lines += ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
            lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", ""])


def table(rows):
    """Rows, dicts with equal keys, as lists of text; the first holds the keys.

    What a table cannot show, dicts within the rows, is left out.
    """
    keys = [key for key in rows[0] if not any(isinstance(row[key], dict) for row in rows)]
    return [keys, *([_text(row[key]) for key in keys] for row in rows)]


def show(title, rows):
    """Prints rows, dicts with equal keys, as a table."""
    lines = table(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  " + "  ".join([first.ljust(widths[0]), *cells]))


def _text(value):
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
