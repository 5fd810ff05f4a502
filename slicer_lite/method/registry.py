"""The methods by name, and how a method and an encoder of one's own take their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer_lite.config import Config
from slicer_lite.method.byol_a import BYOLA
from slicer_lite.method.delores import DeLoResM
from slicer_lite.method.method import EMBEDDINGS, LOSS, Method, Network, Panel
from slicer_lite.method.moco import MoCo
from slicer_lite.method.slicer import SLICER

METHODS: dict[str, type[Method]] = {method.name: method for method in (SLICER, MoCo, DeLoResM, BYOLA)}
MakesMethod = Callable[..., Method]  # a class or function of (config, encoder)
MakesEncoder = Callable[[], Any]  # a class or function without arguments, of a `FrameEncoder`


def new_method(
    config: Config, method: MakesMethod | None = None, encoder: MakesEncoder | None = None
) -> Method:
    """The method of the settings, or one of one's own, with fresh weights.

    Raises:
        ValueError: there is no method of that name, or its losses have no weight.
    """
    return (method or _named(config.method))(config, encoder)


def new_network(
    config: Config, method: MakesMethod | None = None, encoder: MakesEncoder | None = None
) -> Network:
    """A student of the method with fresh weights, without what only training needs where the method says how."""
    method = method or _named(config.method)
    network = getattr(method, "network", None)
    return method(config, encoder).student if network is None else network(config, encoder)


def name_of(method: MakesMethod) -> str:
    """What a method of one's own is called in `config.json`: its own `name`, or that of the class or function.

    Raises:
        ValueError: it has none, or that of another method.
    """
    own = vars(method).get("name") if isinstance(method, type) else None
    name = str(own or getattr(method, "__name__", "<lambda>"))
    if name == "<lambda>" or METHODS.get(name, method) is not method:
        raise ValueError(
            f"method: {name} is no name of its own, by which the run could be told from others: give the class a "
            "`name`, or write the function with def."
        )
    return name


def panels_of(method: str | MakesMethod) -> tuple[Panel, ...]:
    """What is drawn of a run, of its method or of the method's name; without more knowledge the loss."""
    known = METHODS.get(method) if isinstance(method, str) else method
    return (*getattr(known, "panels", (LOSS,)), EMBEDDINGS)


def _named(name: str) -> type[Method]:
    if name not in METHODS:
        raise ValueError(
            f"There is no method {name!r}. The methods are: {', '.join(METHODS)}; one of your own is given as "
            "method=, a class or a function."
        )
    return METHODS[name]
