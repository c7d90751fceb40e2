"""What is told of a GPU measurement: the short table, the README's table, the kernels' lines."""

import json
import re
from pathlib import Path
from statistics import mean

import record
from gpu_models import AGAIN, NETWORKS, PEERS, TINY
from gpu_row import Row

from gpunet.backend.sources import kernel_dir

RIVALS = ["PyTorch", "compile", "JAX"]  # columns; a ratio above 1 means that gpunet is faster
COMMAND = "python tests/benchmarks/gpu.py"
NOT_ASKED = "not asked for"
EXCUSED = (TINY, NOT_ASKED)
NOT_MEASURED = "not measured"
WIDTH = 100


def short(line: dict) -> str:
    """A row of the report on one line."""
    if line["us"] is None:
        return f"{line['op']}: {line['note'] or 'no figure'}"
    share = "" if line["share"] is None else f", {100 * line['share']:.0f} % of {line['of']}"
    return f"{line['op']}: {line['us']:.1f} us{share}"


def lost(row: Row, quick: bool, note: str) -> dict:
    """The line of a row that was not measured, and why."""
    line = {"op": row.name, "size": row.size_text(quick), "dtype": row.dtype, "us": None}
    line |= {"share": None, "of": row.of, "target": row.target, "note": note}
    return line | {"details": {"rivals": {}}}


def verdict(line: dict) -> str:
    """Whether a row reached its target: `hit`, `missed`, or empty where there is none."""
    if line["target"] is None or line["share"] is None:
        return ""
    return "hit" if line["share"] >= line["target"] else "missed"


def failures(report: dict) -> list[str]:
    """The rows that are wrong or failed, the tests and the sanitizer if they failed, networks."""
    ops = report["parts"].get("ops", [])
    found = [line["op"] for line in ops if line["us"] is None and line["note"] != "emulated"]
    for part in ("tests", "sanitizer"):
        found += [part for line in report["parts"].get(part, []) if line.get("status")]
    for row in report["parts"].get("models", []):
        untimed = row["gpunet ms"] is None and row["details"]["gpunet"]["note"] not in EXCUSED
        found += [row["model"]] if untimed or row["result"].startswith("void") else []
    return found


def shown(lines: list[dict]) -> list[dict]:
    """The rows as the tables show them: ratios of the rivals' times to ours beside each."""
    rows = []
    for line in lines:
        rivals = line["details"].get("rivals", {})
        row = {name: line[name] for name in ("op", "size", "dtype", "us", "share", "of", "target")}
        row["result"] = verdict(line)
        row |= {f"{name} / ours": rivals.get(name, {}).get("ratio") for name in RIVALS}
        rows.append(row)
    return rows


def summary(report: dict) -> str:
    """The short table, Markdown that also reads well as text."""
    parts, lines = report["parts"], report["parts"].get("ops", [])
    text = [f"# {report['device']}, {report.get('date', '')[:10]}, {report.get('commit', '')}", ""]
    for name in ("tests", "sanitizer"):
        text += [f"{name}: {part['summary']} {part['note']}" for part in parts.get(name, [])]
    if "models" in parts:
        text += [*_markdown(parts["models"]), "", *_remarks(parts["models"])]
        return "\n".join(text) + "\n"
    text += ["", *_ceilings(parts), "", *_markdown(shown(lines) or [{"op": "none"}]), ""]
    hits = [verdict(line) for line in lines]
    text.append(f"targets hit {hits.count('hit')}, missed {hits.count('missed')}")
    text += [f"no figure: {short(line)}" for line in lines if line["us"] is None
             and line["note"] != "emulated"]  # fmt: skip
    emulated = sum(line["note"] == "emulated" for line in lines)
    text += [f"{emulated} rows emulated: results checked, nothing timed"] if emulated else []
    return "\n".join(text) + "\n"


# -- training steps ----------------------------------------------------------------------------


def short_model(contender: str, facts: dict) -> str:
    """What a contender found on one line."""
    if facts["ms"] is None:
        return f"{contender}: {facts['note'] or 'no figure'}"
    return f"{contender}: {facts['ms']:.3g} ms, first step {facts['first step s']:.1f} s"


def model_rows(found: dict[str, dict[str, dict]]) -> list[dict]:
    """A row for each network, from what each contender found; ratios above 1: gpunet is faster."""
    return [_model_row(NETWORKS[name], results) for name, results in found.items() if results]


def _model_row(network, results):
    own = [results[c]["ms"] for c in ("gpunet", AGAIN) if c in results and results[c]["ms"]]
    ours = mean(own) if own else None
    counts = {c: facts["parameters"] for c, facts in results.items() if "parameters" in facts}
    equal = len(set(counts.values())) <= 1
    times = {c: results.get(c, {}).get("ms") for c in PEERS}
    ratios = {c: ms / ours if ms and ours and equal else None for c, ms in times.items()}
    gpunet = results.get("gpunet", {})
    row = {"model": network.title, "gpunet ms": ours}
    row["items / s"] = network.items / ours * 1e3 if ours else None
    row["GB"], row["first step s"] = gpunet.get("held GB"), gpunet.get("first step s")
    row |= {f"{peer} / ours": ratios[peer] for peer in PEERS}
    row |= {"target": None, "result": "" if equal else f"void: parameters {counts}"}
    if network.target:
        peer, least = network.target
        row["target"] = f"{least:g} of {peer}"
        if ratios[peer]:
            row["result"] = "hit" if ratios[peer] >= least else "missed"
    noise = max(own) / min(own) - 1 if len(own) > 1 else None
    return row | {"details": {"gpunet": {"note": NOT_ASKED}, **results, "noise": noise}}


def _remarks(rows):
    """The noise, the contenders without a figure, and what warned, each on one line."""
    text, tiny = [], 0
    for row in rows:
        details = dict(row["details"])
        noise = details.pop("noise")
        text += [] if noise is None else [f"{row['model']}: gpunet again {100 * noise:.1f} % off"]
        for contender, facts in details.items():
            warned = [f"warns: {w}" for w in facts.get("warnings", [])]
            tiny += facts["note"] == TINY
            notes = [facts["note"]] if facts["note"] not in ("", TINY) else []
            text += [f"{row['model']}: {contender}: {note}" for note in notes + warned]
    return text + ([f"{tiny} tiny networks trained, nothing timed"] if tiny else [])


def record_models(report: dict) -> int:
    """Puts the networks of a report into `results/`; others measured there before stay."""
    names = ("date", "commit", "device", "system", "versions", "environment")
    measured = {name: report[name] for name in names} | {"command": f"{COMMAND} --models all"}
    rows = []
    for row in report["parts"]["models"]:
        shown = {name: value for name, value in row.items() if name != "details"}
        rows.append(shown | {"commit": report["commit"], "details": row["details"] | measured})
    path = record.RESULTS / "gpu.json"
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    before = {row["model"]: row for row in known.get("models", {}).get("results", [])}
    merged = before | {row["model"]: row for row in rows}
    titles = [network.title for network in NETWORKS.values()]
    kept = [merged[title] for title in titles if title in merged]
    print(f"Written to {record.save('gpu', {'models': kept}, measured)}")
    return 0


# -- tables ------------------------------------------------------------------------------------


def _ceilings(parts):
    """The ceilings of the start, and how far those at the end are from them."""
    first, last = parts.get("ceilings", []), parts.get("ceilings at the end", [])
    text = []
    for row in first:
        rate, unit = row.get("GB/s"), "GB/s"
        if rate is None:
            rate, unit = row.get("TFLOP/s"), "TFLOP/s"
        if rate is None:
            continue
        now = [
            r.get(unit)
            for r in last
            if (r["ceiling"], r["bytes"]) == (row["ceiling"], row["bytes"])
        ]
        change = f", at the end {100 * (now[0] / rate - 1):+.1f} %" if now and now[0] else ""
        text.append(f"{row['ceiling']}, {row['bytes'] >> 20} MiB: {rate:.0f} {unit}{change}")
    return text


def _markdown(rows):
    heads, *cells = record.table(rows)
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    return lines + ["| " + " | ".join(line) + " |" for line in cells]


# -- keeping the figures ------------------------------------------------------------------------


def record_figures(path: Path, kernels: Path | None = None) -> int:
    """Puts a `gpu.json` into `results/`, the README's tables, and the kernels' Measured lines."""
    report = json.loads(path.read_text("utf-8"))
    parts = report["parts"]
    tiny = report["device"] == "emulator" or report.get("quick")
    if tiny or not (parts.get("ops") or parts.get("models")):
        print("Nothing to record there: no ops, the emulator, or the tiny sizes of --quick.")
        return 1
    if parts.get("models"):
        return record_models(report)
    names = ("date", "commit", "device", "system", "versions", "environment")
    measured = {name: report[name] for name in names} | {"command": COMMAND}
    measured |= {name: report["parts"].get(name, []) for name in ("tests", "sanitizer")}
    lines = report["parts"]["ops"]
    details = [line["details"] | {"note": line["note"]} for line in lines]
    rows = [row | {"details": more} for row, more in zip(shown(lines), details, strict=True)]
    ceilings = report["parts"].get("ceilings")
    results = ({"ceilings": ceilings} if ceilings else {}) | {"ops": rows}
    print(f"Written to {record.save('gpu', results, measured)}")
    changed = write_measured_lines(report, kernels or kernel_dir())
    print(f"{changed} kernels say what was measured")
    return 0


def measured_texts(report: dict) -> dict[tuple[str, str], str]:
    """What each kernel's header says, by file and name of the kernel.

    A row that launches nothing else tells most about a kernel; else the first one it is part of.
    """
    alone: dict[tuple[str, str], str] = {}
    among: dict[tuple[str, str], str] = {}
    for line in report["parts"].get("ops", []):
        launched = [_kernel(name) for name in line["details"].get("kernels", [])]
        if line["us"] is None:
            continue
        where = f"{line['op']}, {line['dtype']} {line['size']}; {report['device']}"
        share = "" if line["share"] is None else f"{100 * line['share']:.0f} % of {line['of']}, "
        text = f"{share}{line['us']:.1f} us ({where}, {report['date'][:10]})"
        for kernel in launched:
            if len(set(launched)) == 1:
                alone.setdefault(kernel, text)
            else:
                among.setdefault(kernel, f"with others {text}")
    return among | alone


def _kernel(launched):
    file, _, expression = launched.partition(":")
    return file, expression.split("<")[0]


def write_measured_lines(report: dict, folder: Path) -> int:
    """Rewrites the `Measured` line above every kernel; returns how many have a figure."""
    texts, written = measured_texts(report), 0
    for path in sorted(folder.glob("*.cu")):
        lines = path.read_text("utf-8").splitlines()
        for number in reversed(
            [i for i, line in enumerate(lines) if line.startswith("// Measured")]
        ):
            name = _kernel_below(lines, number)
            text = texts.get((path.name, name), NOT_MEASURED)
            written += text != NOT_MEASURED
            end = number + 1
            while lines[end].startswith("//            "):
                end += 1
            lines[number:end] = _comment(text)
        path.write_text("\n".join(lines) + "\n", "utf-8")
    return written


def _kernel_below(lines, number):
    """The name of the kernel whose header comment has line `number`."""
    text = "\n".join(lines[number : number + 30])
    match = re.search(r"__global__[^;{]*?\b(\w+)\s*\((?!\s*BLOCK|\s*\d|\s*k[A-Z])", text)
    return match[1] if match else ""


def _comment(text):
    """A header line, broken where it would be too long."""
    lines, line = [], "// Measured "
    for word in text.split():
        if len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = "//            " + word
        else:
            line += " " + word
    return [*lines, line]
