"""The house has floors: a room imports lower floors only, never a higher one, never a neighbour.

A room is a folder or a module directly under `gpunet/`. The rule also holds inside functions and
under `TYPE_CHECKING`, because it is about what a reader must know to understand a room.
"""

import ast
import io
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "gpunet"

# Some floors have steps: rooms on a step may import those on the steps before it.
FLOORS = {
    0: ["errors version", "config", "dtypes naming origin tree"],
    1: ["backend"],
    2: ["core"],
    3: ["ops"],
    4: ["compile random"],
    5: [
        "data datasets distributed saving",
        "activations constraints dtype_policies initializers regularizers schedules testing",
        "cuda",
    ],
    6: ["callbacks layers losses metrics optimizers"],
    7: ["models", "gpunet"],  # `gpunet`: the public names, which only the command line may import
    8: ["cli utils", "__main__"],
}
PLACE = {
    room: (floor, step)
    for floor, steps in FLOORS.items()
    for step, rooms in enumerate(steps)
    for room in rooms.split()
}

FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(file):
    """`ops/reduce.py` is in the room `ops`; `config.py` is a room; `__init__.py` is the house."""
    room = file.split("/")[0].removesuffix(".py")
    return "gpunet" if room == "__init__" else room


def modules_imported(file, source):
    """Yields (line, dotted name as a list) for everything that the source imports, in any way."""
    package = ["gpunet", *file.split("/")[:-1]]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = [alias.name.split(".") for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package[: len(package) + 1 - level] if level else []
                base = base + (module.split(".") if module else [])
                found = [[*base, alias.name] for alias in names]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found = [name.split(".")]
            case _:
                continue
        yield from ((node.lineno, name) for name in found)


def rooms_imported(file, source):
    """Yields (line, room); a name taken from `gpunet` that is no room counts as the whole house."""
    for line, (top, *rest) in modules_imported(file, source):
        if top == "gpunet":
            yield line, rest[0] if rest and rest[0] in PLACE else "gpunet"


def wrong_imports(file, source):
    room = room_of(file)
    return [
        f"gpunet/{file}:{line}: {room} is on floor {PLACE[room][0]} and must not import {other}, "
        f"on floor {PLACE[other][0]}"
        for line, other in dict.fromkeys(rooms_imported(file, source))
        if other != room and PLACE[other] >= PLACE[room]
    ]


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_imports_go_down(file):
    wrong = wrong_imports(file, FILES[file].read_text("utf-8"))
    assert not wrong, "\n".join(wrong)


def test_every_room_has_a_floor():
    homeless = {room_of(file) for file in FILES} - PLACE.keys()
    assert not homeless, f"say in FLOORS on which floor they are: {sorted(homeless)}"


@pytest.mark.parametrize(
    "statement",
    [
        "import gpunet.layers",
        "import gpunet.layers.core as core",
        "from gpunet import layers",
        "from gpunet.layers import Dense",
        "from .. import layers",
        "from ..layers.core import Dense",
        "def f():\n    from gpunet.models import Model",
        "import importlib\nimportlib.import_module('gpunet.layers')",
        "import gpunet",
        "from gpunet import Tensor",
        "from gpunet.random import uniform",
        "from gpunet.compile.passes import fuse\nimport gpunet.metrics",
    ],
)
def test_the_rule_sees_every_way_up(statement):
    assert len(wrong_imports("compile/passes.py", statement)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "import numpy as np",
        "from gpunet.errors import ShapeError",
        "from gpunet import ops",
        "from ..ops import reduce",
        "from . import fuse",
        "from .fuse import fuse",
        "from gpunet.compile import plan",
        "import gpunetwork.layers",
    ],
)
def test_the_rule_lets_pass_what_goes_down(statement):
    assert not wrong_imports("compile/passes.py", statement)


@pytest.mark.parametrize("file", FILES)
def test_files_can_be_read_in_one_sitting(file):
    lines = FILES[file].read_text("utf-8").count("\n")
    assert lines <= 600, f"gpunet/{file} has {lines} lines: split it by family"


def code_lines(source):
    """Lines that hold code: no blank lines, comments or docstrings, which a core needs many of."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node)
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = (tok for tok in tokens if tok.string.strip() and tok.type != tokenize.COMMENT)
    return {n for tok in code for n in range(tok.start[0], tok.end[0] + 1)} - docstrings


def test_the_core_stays_small():
    sources = [path.read_text("utf-8") for path in (PACKAGE / "core").rglob("*.py")]
    lines = sum(len(code_lines(source)) for source in sources)
    assert lines <= 1200, f"gpunet/core is what a learner reads first, and has {lines} code lines"
