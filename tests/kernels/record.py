"""Writes `cuda_kernels/kernels.json`: what `python -m gpunet kernels` shows of every kernel.

python tests/kernels/record.py      (two minutes; after every change of a kernel or of its rows)

Which primitives launch a kernel and with which dtypes, its largest error on the emulator, what the
compiler says of its registers, and what was measured on a GPU. A test fails while it is outdated.
"""

import hashlib
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import gpunet.ops  # noqa: F401 - fills the registry
from gpunet.backend import nvrtc
from gpunet.backend.kernels import Kernel, assemble, kernel_dir
from gpunet.core.primitive import REGISTRY
from gpunet.testing import ops as checks
from tests.kernels.instantiations import instantiations
from tests.ops.cases import CASES

PATH = kernel_dir() / "kernels.json"
ARCHITECTURE = "sm_90"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "gpu.json"


def digests():
    """The hash of each kernel file with the headers it includes."""
    files = sorted(kernel_dir().glob("*.cu"))
    return {
        f.name: hashlib.sha256(assemble(f.read_text(), f.name).encode()).hexdigest()[:16]
        for f in files
    }


def survey():
    """Runs every row on the emulator; returns ops and errors by dtype of each (file, kernel)."""
    found = defaultdict(lambda: {"ops": set(), "errors": defaultdict(float)})
    noted = set()
    run = Kernel.__call__

    def note(kernel, **launch):
        noted.add((kernel.file, kernel.expression.split("<")[0]))
        run(kernel, **launch)

    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(Kernel, "__call__", note)
        for name in sorted(CASES.keys() & REGISTRY.keys()):
            for row in CASES[name] if "cuda" in REGISTRY[name].rules else ():
                for dtype in row.dtypes or ("int32",):
                    noted.clear()
                    error = error_of(REGISTRY[name], row.inputs(dtype), row.attributes)
                    for key in noted:
                        found[key]["ops"].add(name)
                        found[key]["errors"][dtype] = max(found[key]["errors"][dtype], error)
    return found


def error_of(op, inputs, attributes):
    """The largest difference to float64 on the CPU, as a share of the largest result."""
    wide = [x.astype(np.float64) if x.dtype.kind in "fV" else x for x in inputs]
    worst = 0.0
    ours, reference = (
        checks.run(op, inputs, attributes, "emulator"),
        checks.run(op, wide, attributes),
    )
    for y, expected in zip(ours, reference, strict=True):
        y, expected = (np.asarray(x.numpy(), np.float64) for x in (y, expected))
        finite = np.isfinite(expected) & np.isfinite(y)
        if finite.any() and (scale := np.abs(expected[finite]).max()):
            worst = max(worst, float(np.abs(y - expected)[finite].max() / scale))
    return worst


def usage():
    """Registers, spills and shared memory of each (file, kernel): the most of any variant."""
    found = {}
    for file, names in instantiations().items():
        text = assemble((kernel_dir() / file).read_text(), file)
        for name, used in nvrtc.compile_cubin(text, names, ARCHITECTURE).kernels.items():
            key = file, name.split("<")[0]
            most = found.setdefault(key, {"registers": 0, "spills": 0, "shared": 0, "variants": 0})
            most["variants"] += 1
            for what in ("registers", "spills", "shared"):
                most[what] = max(most[what], getattr(used, what))
    return found


def measured():
    """What the newest run of tests/benchmarks/gpu.py says of each op."""
    if not RESULTS.exists():
        return {}
    parts = json.loads(RESULTS.read_text("utf-8"))
    return {row["op"]: row for part in parts.values() for row in part["results"] if "op" in row}


def record():
    known, figures = survey(), measured()
    kernels = defaultdict(dict)
    for (file, kernel), used in sorted(usage().items()):
        facts = known.get((file, kernel), {"ops": (), "errors": {}})
        kernels[file][kernel] = {
            "ops": sorted(facts["ops"]),
            "errors": {dtype: float(f"{e:.2g}") for dtype, e in sorted(facts["errors"].items())},
            **used,
            "measured": {op: figures[op] for op in sorted(facts["ops"]) if op in figures},
        }
    return {"architecture": ARCHITECTURE, "digests": digests(), "kernels": kernels}


if __name__ == "__main__":
    PATH.write_text(json.dumps(record(), indent=1) + "\n", "utf-8")
    print(f"{PATH} written")
