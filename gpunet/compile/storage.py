"""Graphs in files: safetensors for arrays, and JSON in its header for the equations."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import optree

from gpunet.backend import memory
from gpunet.backend.device import Device
from gpunet.compile.passes import results
from gpunet.core.primitive import REGISTRY
from gpunet.core.tensor import Tensor
from gpunet.core.trace import Equation, Graph, Symbol, infer
from gpunet.core.variable import Variable, standardize_shape
from gpunet.dtypes import numpy_dtype
from gpunet.errors import GpunetError, SavingError, received
from gpunet.ops.control_graph import Inner
from gpunet.origin import Origin

_FORMAT = "gpunet.graph.1"


def save(graph: Graph, path: str | os.PathLike) -> None:
    """Writes a graph with its constants and the values of its Variables."""
    from safetensors.numpy import save_file

    writer = _Writer()
    inputs, cells = writer.list(graph.inputs), []
    for variable, symbol, value in graph.cells.values():
        writer.keep(symbol, variable._data)
        settings = {"name": variable.name, "path": variable.path, "trainable": variable.trainable}
        last = graph.symbol(value.data)
        cells.append([writer.number(symbol), writer.number(last), settings])
    content = {
        "format": _FORMAT,
        "device": graph.device.name,
        "inputs": inputs,
        "cells": cells,
        "constants": writer.constants(graph),
        "equations": [writer.equation(eq) for eq in graph.equations],
    }
    nest = optree.tree_unflatten(graph.structure, writer.list(graph.outputs))
    content["results"] = writer.packed(nest, "the structure of the results")
    content["symbols"] = [[list(s.shape), s.dtype.name] for s in writer.numbers]
    save_file(writer.arrays, path, {"graph": json.dumps(content)})


class _Writer:
    """Numbers the symbols of a graph and of those inside of it, and collects their arrays."""

    def __init__(self):
        self.numbers: dict[Symbol, int] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def number(self, symbol):
        return self.numbers.setdefault(symbol, len(self.numbers))

    def list(self, symbols):
        return [self.number(s) for s in symbols]

    def keep(self, symbol, data):
        array = np.ascontiguousarray(memory.to_numpy(data))
        self.arrays[str(self.number(symbol))] = array.reshape(symbol.shape)

    def constants(self, graph):
        for symbol, data in graph.constants.items():
            self.keep(symbol, data)
        return self.list(graph.constants)

    def equation(self, eq):
        if REGISTRY.get(eq.op.name) is not eq.op:
            raise SavingError(
                "Only gpunet's own primitives can be read again; save a graph before fusion. "
                + received(primitive=eq.op.name)
            )
        where = f"an attribute of {eq.op.name}"
        attributes = {key: self.packed(value, where) for key, value in eq.attributes.items()}
        ins, outs = self.list(eq.inputs), self.list(eq.outputs)
        return [eq.op.name, ins, attributes, outs, list(eq.origin)]

    def packed(self, value: Any, where: str) -> Any:
        """Returns a value in JSON's types; what that has not is a list beginning with its kind."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.dtype):
            return ["dtype", value.name]
        if isinstance(value, slice):
            parts = (value.start, value.stop, value.step)
            return ["slice", *[self.packed(v, where) for v in parts]]
        if value is Ellipsis:
            return ["ellipsis"]
        if isinstance(value, Inner):
            equations = [self.equation(eq) for eq in value.equations]
            ends = self.list(value.inputs), self.list(value.outputs)
            return ["graph", *ends, self.constants(value), equations]
        if type(value) in (tuple, list):
            return [type(value).__name__, *[self.packed(v, where) for v in value]]
        if type(value) is dict and all(isinstance(key, str) for key in value):
            return {key: self.packed(v, where) for key, v in value.items()}
        raise SavingError(f"A file cannot hold {where}. {received(value=value)}")


def load(path: str | os.PathLike) -> Graph:
    """Reads what `save` wrote; shapes and dtypes are inferred again, and must be those kept."""
    from safetensors import SafetensorError, safe_open

    # What a file of other content can run into on the way.
    faults = SafetensorError, GpunetError, ValueError, TypeError, LookupError, ArithmeticError
    try:
        with safe_open(Path(path), "numpy") as file:
            content = json.loads((file.metadata() or {})["graph"])
            arrays = {int(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if content["format"] != _FORMAT:
            raise SavingError(f"This file has a format of its own. {received(**content)}")
        return _graph(content, arrays)
    except (*faults, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SavingError(f"{path} cannot be read as a graph. {reason}") from error


def _graph(content, arrays):
    reader = _Reader(content, arrays)
    device, symbols = reader.device, reader.symbols
    graph = Graph(device)
    graph.inputs = [symbols[i] for i in content["inputs"]]
    for i, last, settings in content["cells"]:
        variable = Variable(
            Tensor(reader.array(i), device),
            trainable=settings["trainable"],
            name=settings["name"],
        )
        variable.path = str(settings["path"])
        graph.cells[id(variable)] = variable, symbols[i], Tensor(symbols[last], device)
    nest: Any = reader.unpacked(content["results"])
    numbers, graph.structure = optree.tree_flatten(nest)
    graph.outputs = [symbols[i] for i in numbers]
    reader.fill(graph, content["constants"], content["equations"])
    return graph


def _check_known(symbols, known):
    if not known.issuperset(symbols):
        raise SavingError("It uses a result that no equation before computes.")


class _Reader:
    """Makes graphs of what `_Writer` wrote."""

    def __init__(self, content, arrays):
        self.device = Device(content["device"])
        self.symbols = [
            Symbol(standardize_shape(shape), dtype) for shape, dtype in content["symbols"]
        ]
        with self.device.activate():
            self._arrays = {
                i: memory.as_array(a, None, self.device, copy=True) for i, a in arrays.items()
            }

    def array(self, number):
        """The array of a symbol."""
        array, symbol = self._arrays[number], self.symbols[number]
        if (array.shape, array.dtype) != (symbol.shape, symbol.dtype):
            raise SavingError(f"The array of {symbol} is {array.dtype} of shape {array.shape}.")
        return array

    def fill(self, graph, constants, equations):
        """Puts constants and equations into a graph that has its other parts."""
        known = {*graph.inputs, *[symbol for _, symbol, _ in graph.cells.values()]}
        for i in constants:
            graph.constants[self.symbols[i]] = array = self.array(i)
            graph._constant_symbols[id(array)] = self.symbols[i]
        known.update(graph.constants)
        for name, inputs, attributes, outputs, (layer, line, of_gradient) in equations:
            if name not in REGISTRY:
                raise SavingError(
                    f"This gpunet has no primitive of that name. {received(name=name)}"
                )
            ins, outs = ([self.symbols[i] for i in numbers] for numbers in (inputs, outputs))
            _check_known(ins, known)
            known.update(outs)
            unpacked = {key: self.unpacked(value) for key, value in attributes.items()}
            found = infer(REGISTRY[name], ins, unpacked, self.device)
            if repr(outs) != repr(list(found) if isinstance(found, tuple) else [found]):
                raise SavingError(f"{name} of {ins} is {found}, not {outs}.")
            origin = Origin(layer and str(layer), line and str(line), bool(of_gradient))
            graph.equations.append(Equation(REGISTRY[name], ins, unpacked, outs, origin))
        _check_known(results(graph), known)

    def unpacked(self, value):
        if isinstance(value, dict):
            return {key: self.unpacked(v) for key, v in value.items()}
        if not isinstance(value, list):
            return value
        kind, *parts = value
        if kind == "dtype":
            return numpy_dtype(parts[0])
        if kind == "graph":
            return self.inner(*parts)
        values = [self.unpacked(part) for part in parts]
        kinds = {"tuple": tuple, "list": list, "slice": lambda v: slice(*v)}
        return Ellipsis if kind == "ellipsis" else kinds[kind](values)

    def inner(self, inputs, outputs, constants, equations):
        """A graph inside of an equation."""
        graph = Inner(self.device)
        graph.inputs = [self.symbols[i] for i in inputs]
        graph.outputs = [self.symbols[i] for i in outputs]
        nest: Any = graph.outputs
        graph.structure = optree.tree_structure(nest)
        self.fill(graph, constants, equations)
        return graph
