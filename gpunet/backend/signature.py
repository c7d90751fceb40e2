"""What a `__global__` function takes, read from its source: no compiler, no GPU."""

import functools
import re
from dataclasses import dataclass

import numpy as np

from gpunet.dtypes import BFLOAT16

# The types that kernels store and take, as `cuda_type` names them.
DTYPES = {
    cuda: np.dtype(name)
    for name, cuda in {
        **{"bool": "bool", "int8": "signed char", "uint8": "unsigned char"},
        **{"int16": "short", "uint16": "unsigned short", "int32": "int", "uint32": "unsigned int"},
        **{"int64": "long long", "uint64": "unsigned long long"},
        **{"float16": "__half", "float32": "float", "float64": "double"},
    }.items()
} | {"__nv_bfloat16": BFLOAT16}
# Other spellings of the same types.
_SPELLINGS = {
    **{"half": "__half", "nv_bfloat16": "__nv_bfloat16", "unsigned": "unsigned int"},
    **{"int8_t": "signed char", "uint8_t": "unsigned char", "int16_t": "short"},
    **{"uint16_t": "unsigned short", "int32_t": "int", "uint32_t": "unsigned int"},
    **{"short int": "short", "unsigned short int": "unsigned short", "signed int": "int"},
    **{"long long int": "long long", "unsigned long long int": "unsigned long long"},
}
# Comments, literals and preprocessor lines: nothing in them is a declaration.
_NOISE = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    r"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*",
    re.DOTALL | re.MULTILINE,
)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+((?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)
_KERNEL = re.compile(r"\b__global__\s+(?:(?:static|inline)\s+)*void\s+(\w+)\s*\(")
_BOUNDS = re.compile(r"\b__(?:launch_bounds|maxnreg|cluster_dims)__\s*(?=\()")
_CLOSING = {"(": ")", "<": ">", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel.

    Attributes:
        name: Its name.
        type: The C++ type, of the elements if it is a pointer: `"T"`, `"float"`, `"Acc<T>"`.
        pointer: Whether it is a pointer.
        const: Whether it is `const`: a pointer that is only read from.
    """

    name: str
    type: str
    pointer: bool
    const: bool

    def __str__(self) -> str:
        const = "const " if self.const and self.pointer else ""
        return f"{const}{self.type}{'*' if self.pointer else ''} {self.name}"


@dataclass(frozen=True)
class Signature:
    """A `__global__` function.

    Attributes:
        name: Its name.
        template: `(kind, name)` of each template parameter, such as `("typename", "T")`.
        parameters: Its parameters.
    """

    name: str
    template: tuple[tuple[str, str], ...]
    parameters: tuple[Parameter, ...]

    def types(self, arguments: tuple) -> tuple[str | None, ...] | None:
        """Returns the parameters' types, `"const float*"`, under these template arguments.

        `None` stands for a type that is not in `DTYPES`, such as a struct; `None` for all, where a
        macro in the list hides how many there are.
        """
        if not all(parameter.type for parameter in self.parameters):
            return None
        names = [name for _, name in self.template]
        bound = dict(zip(names, map(str, arguments), strict=False))
        return tuple([_concrete(parameter, bound) for parameter in self.parameters])


def _concrete(parameter, bound):
    scalar = scalar_type(parameter.type, bound)
    if scalar not in DTYPES:
        return None
    const = "const " if parameter.const and parameter.pointer else ""
    return f"{const}{scalar}{'*' if parameter.pointer else ''}"


def scalar_type(text: str, bound: dict[str, str]) -> str:
    """Returns the usual name of a C++ type after template parameters are put in.

    Args:
        text: For example `"T"`, `"unsigned"` or `"Acc<T>"`, the type that sums of T are kept in.
        bound: Types by the name of the template parameter.

    Example:
        >>> scalar_type("Acc<T>", {"T": "__half"}), scalar_type("unsigned", {})
        ('float', 'unsigned int')
    """
    text = " ".join(re.sub(r"\w+", lambda match: bound.get(match[0], match[0]), text).split())
    if match := re.fullmatch(r"Acc\s*<\s*(.*?)\s*>", text):
        inner = DTYPES.get(_SPELLINGS.get(match[1], match[1]))
        if inner is None or inner.kind in "fV":
            return "double" if inner == np.float64 else "float"
        return "unsigned long long" if inner.kind == "u" else "long long"
    return _SPELLINGS.get(text, text)


@functools.lru_cache(maxsize=64)
def signatures(source: str) -> dict[str, Signature]:
    """Returns the `__global__` functions of a CUDA source by name.

    A macro without arguments may stand for parameters; kernels that a macro makes are not seen.

    Args:
        source: CUDA C++.

    Example:
        >>> text = "template <typename T> __global__ void scale(const T* x, T* y, float a) {}"
        >>> found = signatures(text)["scale"]
        >>> found.template, [str(p) for p in found.parameters]
        ((('typename', 'T'),), ['const T* x', 'T* y', 'float a'])
        >>> found.types(("__half",))
        ('const __half*', '__half*', 'float')
    """
    macros = {name: body.replace("\\\n", " ") for name, body in _MACRO.findall(source)}
    text = _without_bounds(_NOISE.sub(lambda match: " " * len(match[0]), source))
    found = {}
    for match in _KERNEL.finditer(text):
        inside = text[match.end() : _end(text, match.end() - 1)]
        inside = re.sub(r"\w+", lambda word: macros.get(word[0], word[0]), inside)
        parameters = tuple([_parameter(part) for part in _split(inside)])
        found[match[1]] = Signature(match[1], _template(text[: match.start()]), parameters)
    return found


def _without_bounds(text):
    """Takes out `__launch_bounds__(...)` and its like."""
    while match := _BOUNDS.search(text):
        text = text[: match.start()] + " " + text[_end(text, match.end()) + 1 :]
    return text


def _end(text, start):
    """Returns where the bracket that opens at `start` closes."""
    opening, closing, depth = text[start], _CLOSING[text[start]], 0
    for index in range(start, len(text)):
        depth += (text[index] == opening) - (text[index] == closing)
        if not depth:
            return index
    return len(text)


def _split(text):
    """Splits at the commas outside of all brackets."""
    parts, depth, last = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "(<[{") - (letter in ")>]}")
        if letter == "," and not depth:
            parts.append(text[last:index])
            last = index + 1
    parts.append(text[last:])
    return [part.strip() for part in parts if part.strip() not in ("", "void")]


def _template(before):
    """Returns the template parameters of what follows `before`."""
    before = re.sub(r"(?:\bextern\s+|\bstatic\s+|\s)*$", "", before)
    if not before.endswith(">"):
        return ()
    starts = [m.end() - 1 for m in re.finditer(r"\btemplate\s*<", before)]
    ends = len(before) - 1  # a parameter may be a template itself, so the last one may be inside
    opening = next((s for s in reversed(starts) if _end(before, s) == ends), None)
    if opening is None:
        return ()
    parts = [part.split("=")[0].split() for part in _split(before[opening + 1 : -1])]
    kinds = [(" ".join(words[:-1]), words[-1]) for words in parts]
    return tuple([("typename" if kind == "class" else kind, name) for kind, name in kinds])


def _parameter(text):
    text = re.sub(r"\b__restrict(?:__)?\b|\b__grid_constant__\b", " ", text.split("=")[0])
    text = re.sub(r"(\w+)\s*\[\s*\]\s*$", r"* \1", text)
    pointer = text.count("*") + (text.count("&"))
    kind, _, rest = text.partition("*")
    if not pointer:
        *words, name = kind.split()
        kind, const = " ".join(words), "const" in words
    else:
        name = (re.findall(r"\w+", text) or [""])[-1]
        const = re.search(r"\bconst\b", kind) is not None
    kind = " ".join(re.sub(r"\bconst\b", " ", kind).split())
    if "*" in rest or "&" in text:
        return Parameter(name, " ".join(text.split()), True, const)
    return Parameter(name, kind, bool(pointer), const)
