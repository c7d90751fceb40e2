"""The process that measures: one JSON line on standard output for what it begins and finishes.

`gpu.py` starts it, and starts another one for the remaining rows if it hangs, or if a kernel takes
the CUDA context with it. Everything else that is printed goes to standard error.

    python tests/benchmarks/gpu_worker.py --device emulator --quick --ceilings
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path

from gpu_ceilings import Ceilings, measure_ceilings
from gpu_measure import Machine, run_row
from gpu_table import MEMORY_ROWS
from gpu_table_compute import COMPUTE_ROWS

ROWS = {row.name: row for row in [*MEMORY_ROWS, *COMPUTE_ROWS]}
assert len(ROWS) == len(MEMORY_ROWS) + len(COMPUTE_ROWS), "two rows have one name"


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--ceilings", action="store_true", help="measure the ceilings only")
    parser.add_argument("--known", type=Path, help="JSON of ceilings measured before")
    parser.add_argument("--warm", action="store_true", help="compile PyTorch's forms, and stop")
    parser.add_argument("rows", nargs="*")
    options = parser.parse_args()
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # of libraries that print
        work(options, lambda **event: print(json.dumps(event), file=out, flush=True))


def work(options, say) -> None:
    """Runs rows or ceilings; `say` reports each event."""
    machine = Machine(options.device)
    if options.ceilings:
        say(begin="ceilings")
        say(ceilings=measure_ceilings(machine, options.quick))
        return
    known = json.loads(options.known.read_text("utf-8")) if options.known else []
    ceilings = Ceilings(known)
    for name in options.rows:
        if options.warm:
            warm(ROWS[name], machine, options.quick)
            continue
        say(begin=name)
        line = run_row(ROWS[name], machine, ceilings, options.quick)
        say(row=line)
        machine.release()
        if line["details"].get("device lost"):
            sys.exit(1)


def warm(row, machine, quick) -> None:
    """Fills PyTorch's caches of compiled code, in a process of its own."""
    if row.torch is None or not row.compiled or machine.torch is None:
        return
    torch, eager = machine.torch, row.torch
    arrays = [machine.to_torch(x) for x in row.draw(machine.xp, quick)]
    compiled = torch.compile(lambda *xs: eager(torch, *xs), dynamic=False)
    try:
        if row.wrt:
            cotangent, *others = arrays
            wanted = [others[i].requires_grad_() for i in row.wrt]
            torch.autograd.grad(compiled(*others), wanted, cotangent)
        else:
            compiled(*arrays)
    except Exception as error:  # the measuring process meets it again, and notes it in the row
        print(f"{row.name}: {error}", file=sys.stderr)
    machine.release()


if __name__ == "__main__":
    main()
