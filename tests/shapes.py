"""Executes the shapes that functions of slicer_lite.method carry in their types: see conftest.py."""

import functools

import torch
from beartype import BeartypeConf, beartype

_CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a float, too


def checked(function):
    """The function, checked by beartype if its types have shapes; not while it becomes a program, which has none."""
    if not any("Tensor," in str(annotation) for annotation in function.__annotations__.values()):
        return function
    check = _CHECK(function)

    @functools.wraps(function)
    def either(*args, **kwargs):
        recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
        return (function if recorded else check)(*args, **kwargs)

    return either
