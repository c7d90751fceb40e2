"""One row or more for every primitive: `CASES[name]` is a list of cases."""

import importlib
import pkgutil

CASES = {}
for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    _rows = importlib.import_module(f"{__name__}.{_module}").CASES
    _twice = CASES.keys() & _rows.keys()
    assert not _twice, f"{_module} repeats rows of {_twice}"
    CASES.update(_rows)
