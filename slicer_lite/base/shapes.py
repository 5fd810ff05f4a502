"""Shapes in types: `Float[Tensor, "B 1 F T"]` is a tensor of floats; a letter is one size throughout a signature.

The tests execute them (jaxtyping and beartype, in tests/conftest.py). Elsewhere annotations are text that nobody
evaluates, so jaxtyping is no dependency: without it the names stand for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # to a type checker they are tensors
    from typing import Annotated as Bool
    from typing import Annotated as Float
    from typing import Annotated as Int
else:
    try:
        from jaxtyping import Bool, Float, Int
    except ModuleNotFoundError:
        Bool = Float = Int = None

__all__ = ["Bool", "Float", "Int"]
