"""Broken copies of kernels, one module a family; `tests/kernels/test_mutations.py` kills them."""

import importlib
import pkgutil

from tests.kernels.mutations.mutation import Mutation


def all_mutations() -> list[Mutation]:
    """The mutations of every family, in order of their files."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "mutation")
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return [mutation for module in modules for mutation in module.MUTATIONS]
