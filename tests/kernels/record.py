"""Writes `cuda_kernels/kernels.json`: what `python -m gpunet kernels` shows of every kernel.

python tests/kernels/record.py      (two minutes; after every change of a kernel or of its rows)

Which primitives launch a kernel, with which dtypes, its largest error on the emulator, and what the
compiler says of its registers. A test fails while it is outdated.
"""

import hashlib
import json
import re
from collections import defaultdict

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
DTYPES = {"float": "f32", "__half": "f16", "__nv_bfloat16": "bf16", "double": "f64"}
SHORT = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
WORDS = re.compile(r"\w+").findall


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
            nothing = {"dtypes": set(), "registers": 0, "spills": 0, "shared": 0, "variants": 0}
            most = found.setdefault(key, nothing)
            most["variants"] += 1
            most["dtypes"] |= {short for word, short in DTYPES.items() if word in WORDS(name)}
            for what in ("registers", "spills", "shared"):
                most[what] = max(most[what], getattr(used, what))
    return found


def record():
    known = survey()
    kernels = defaultdict(dict)
    for (file, kernel), used in sorted(usage().items()):
        facts = known.get((file, kernel), {"ops": (), "errors": {}})
        rows = {SHORT[dtype] for dtype in facts["errors"] if dtype in SHORT}
        dtypes = [short for short in DTYPES.values() if short in (used["dtypes"] or rows)]
        kernels[file][kernel] = {
            "ops": sorted(facts["ops"]),
            "errors": {dtype: float(f"{e:.2g}") for dtype, e in sorted(facts["errors"].items())},
            **used,
            "dtypes": " ".join(dtypes),
        }
    return {"architecture": ARCHITECTURE, "digests": digests(), "kernels": kernels}


def as_text(known):
    """JSON with one line for each kernel."""
    files = []
    for file, kernels in known["kernels"].items():
        lines = [f"   {json.dumps(name)}: {json.dumps(facts)}" for name, facts in kernels.items()]
        files.append(f"  {json.dumps(file)}: {{\n" + ",\n".join(lines) + "\n  }")
    head = json.dumps({key: known[key] for key in ("architecture", "digests")}, indent=1)
    return head[:-2] + ',\n "kernels": {\n' + ",\n".join(files) + "\n }\n}\n"


if __name__ == "__main__":
    PATH.write_text(as_text(record()), "utf-8")
    print(f"{PATH} written")
