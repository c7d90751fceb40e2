"""What sanitizers say, in CUDA's terms: kinds, arguments, lines of the kernel, blocks, threads."""

import re
from dataclasses import dataclass

from gpunet.backend.emulator.sanitizers import Watched
from gpunet.backend.emulator.toolchain import CPP

_FRAME = re.compile(r"^ +#\d+ .*? (/\S+?):(\d+)(?::\d+)?(?: \(.*\))?$", re.MULTILINE)
_RACE = re.compile(
    r"^  (?:Previous )?((?:atomic )?(?:read|write)) of size (\d+) at 0x(\w+) by "
    r"(main thread|thread T\d+).*:$",
    re.MULTILINE | re.IGNORECASE,
)
_THREAD = re.compile(r"^  Thread (T\d+) '(block [^']+)'", re.MULTILINE)
_ADDRESS = re.compile(r"ERROR: \w+Sanitizer: ([\w-]+) on (?:unknown )?address 0x(\w+)")
_ACCESS = re.compile(r"^(READ|WRITE) of size (\d+)", re.MULTILINE)
_REGION = re.compile(r"is located .* region \[0x(\w+),\s*0x(\w+)\)")
_VARIABLE = re.compile(r"located (\d+) bytes (?:to the right of|after) global variable '([^']+)'")
_UNDEFINED = re.compile(r"^(\S+?):(\d+):\d+: runtime error: (.+)$", re.MULTILINE)
_CURRENT = re.compile(r"^gpunet: (block .+)$", re.MULTILINE)
_OUT_OF_BOUNDS = ("heap-buffer-overflow", "global-buffer-overflow", "stack-buffer-overflow")
_OUT_OF_BOUNDS += ("use-after-poison", "SEGV")
_KINDS = {
    "misaligned": "misaligned access",
    "overflow": "integer overflow",
    "by zero": "division by zero",
    "out of bounds": "out of bounds",
}


@dataclass(frozen=True)
class Access:
    """One access to memory.

    Attributes:
        what: Such as "write of 4 bytes".
        places: Lines, the innermost first, each with its file.
        thread: Block and thread.
    """

    what: str
    places: tuple[str, ...]
    thread: str

    def __str__(self) -> str:
        where = ", called from ".join(self.places) or "an unknown line"
        return f"{self.what} at {where} by {self.thread}"


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: "race", "out of bounds", "misaligned access", ...
        memory: What was accessed.
        accesses: One, or the two that race.
    """

    kind: str
    memory: str
    accesses: tuple[Access, ...]

    def __str__(self) -> str:
        lines = [f"{self.kind}{self.memory and ': ' + self.memory}"]
        return "\n".join(lines + [f"    {access}" for access in self.accesses])


def findings(watched: Watched) -> list[Finding]:
    """Returns what a sanitizer found, each fault once.

    Args:
        watched: Its log, and where the arguments lay.
    """
    log = watched.log
    found = [_race(part, watched) for part in log.split("=" * 18) if "data race" in part]
    found += [_address(match, watched) for match in _ADDRESS.finditer(log)]
    found += [_undefined(match, watched) for match in _UNDEFINED.finditer(log)]
    if watched.reported and not found:  # in words that this file does not know
        found = [Finding("fault", log, ())]
    return list(dict.fromkeys(found))


def _race(part, watched):
    names = dict(_THREAD.findall(part))
    accesses, memory = [], ""
    for match in _RACE.finditer(part):
        kind, size, address, thread = match[1].lower(), match[2], int(match[3], 16), match[4]
        stack = part[match.end() :].strip("\n").partition("\n\n")[0]
        who = names.get(thread.removeprefix("thread "), thread)
        accesses.append(Access(f"{kind} of {size} bytes", _places(stack), who))
        memory = memory or _inside(address, watched) or _elsewhere(part)
    return Finding("race", memory, tuple(accesses))


def _elsewhere(part):
    if match := re.search(r"Location is global '([^']+)'", part):
        return f"global variable `{match[1]}`"
    return "a local variable" if "Location is stack" in part else "shared memory"


def _address(match, watched):
    kind, address = match[1], int(match[2], 16)
    rest = watched.log[match.end() :]
    access, region = _ACCESS.search(rest), _REGION.search(rest)
    what = f"{access[1].lower()} of {access[2]} bytes" if access else "access"
    stack = rest.partition("\n")[2].partition("\n\n")[0]
    if region:
        memory = _beside(address, int(region[1], 16), int(region[2], 16), watched)
    elif variables := _VARIABLE.findall(rest):
        distance, name = min(variables, key=lambda found: int(found[0]))
        memory = f"{distance} bytes after the end of `{name}`"
    else:
        memory = f"address 0x{match[2]}, which belongs to nothing"
    access = Access(what, _places(stack), _current(watched))
    return Finding("out of bounds" if kind in _OUT_OF_BOUNDS else kind, memory, (access,))


def _undefined(match, watched):
    message = match[3]
    kind = next((kind for sign, kind in _KINDS.items() if sign in message), "undefined behaviour")
    stack = watched.log[match.end() :].strip("\n").partition("\n\n")[0]
    places = _places(stack) or (f"{_file(match[1])} line {match[2]}",)
    return Finding(kind, message, (Access("computed", places, _current(watched)),))


def _current(watched):
    match = _CURRENT.search(watched.log)
    return match[1] if match else "an unknown thread"


def _places(stack):
    """Returns the lines of a stack that are the kernel's own, without the emulator's."""
    own = [(file, line) for file, line in _FRAME.findall(stack) if not _ours(file)]
    return tuple(dict.fromkeys(f"{_file(file)} line {line}" for file, line in own))


def _ours(file):
    return file.startswith((f"{CPP}/", "/usr/")) or "/libsanitizer/" in file


def _file(file):
    return file.removeprefix(f"{CPP.parent}/")


def _inside(address, watched):
    """Returns which element of which argument lies at an address."""
    for index, begin, array in watched.buffers:
        if begin <= address < begin + array.nbytes:
            element = (address - begin) // array.itemsize
            return f"{_argument(index, array)}, element {element}"
    return ""


def _beside(address, begin, end, watched):
    distance = address - end
    side = f"{distance} bytes after the end" if distance >= 0 else "before the start"
    for index, start, array in watched.buffers:
        if begin <= start and start + array.nbytes == end:
            return f"{side} of {_argument(index, array)}"
    return f"{side} of {end - begin} bytes of shared memory"


def _argument(index, array):
    return f"argument {index} ({array.dtype.name}, shape {array.shape})"
