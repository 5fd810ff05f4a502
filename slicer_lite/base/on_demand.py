"""Public names of a package that are loaded when they are first asked for, so that importing it takes no time."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def on_demand(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562).

    Args:
        package: its name.
        homes: for each public name the module below `slicer_lite` that has it; of a name that is a module the module
            itself, with a colon behind it.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, itself, _ = homes[name].partition(":")
        loaded = importlib.import_module(f"slicer_lite.{module}")
        value = loaded if itself else getattr(loaded, name)
        setattr(sys.modules[package], name, value)
        return value

    return load
