"""Who is judged: each method at each layer where it fits, and the baselines."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from camjax.core.model import Model
from camjax.evaluate.baselines import BASELINES, Baseline
from camjax.explain.explainer import Explainer, make_explainer
from camjax.methods.registry import METHODS, MethodError, find_method

Maps = Callable[[UInt8[Any, "b h w 3"], Int[Any, "b k"], Sequence[str]], Float[Any, "b k h w"]]
"""`maps(pixels, classes, names)`: of the classes of pictures of those names, as large as these."""

QUICK = ("cam", "grad-cam", "grad-cam++", "layer-cam", "finer-cam", "eigen-grad-cam", "eigen-cam", "gradient-x-input")
"""Where nobody names a method: different ideas, a pass or two through the network each."""


class Contestant(NamedTuple):
    """One who is judged.

    Attributes:
        method: by its name.
        layer: where it looks; empty for a baseline.
        maps: what it makes.
        explainer: that makes it; None for a baseline, which looks neither at the picture nor into the network.
    """

    method: str
    layer: str
    maps: Maps
    explainer: Explainer | None


def contestants(
    model: Model,
    methods: Sequence[str] | None,
    layers: Sequence[str | None],
    *,
    dtype: Any,  # noqa: ANN401
    on_left_out: Callable[[str], None] = lambda line: None,
) -> list[Contestant]:
    """Every method at every layer, then the baselines.

    Args:
        model: that explains.
        methods: by their names; None is `QUICK`, of which those that do not fit are left out without a word.
        layers: by their names; None is the model's own. A method that explains the picture does so once.
        dtype: what the network computes in.
        on_left_out: called with a line for what fits at some layers and not at another.

    Raises:
        MethodError: there is no such method, or it fits nowhere.
        LayerError: there is no such layer.
    """
    found: dict[tuple[str, str], Contestant] = {}
    for name in methods or QUICK:
        method = find_method(name)
        refused: list[tuple[str | None, MethodError]] = []
        before = len(found)
        for layer in dict.fromkeys(method.layer or layer for layer in layers):
            try:
                explainer = make_explainer(
                    model, method=method, layer=layer, size="input", interpolation="bilinear", top_k=1, dtype=dtype
                )
            except MethodError as problem:
                refused.append((layer, problem))
                continue
            found[name, explainer.layer] = Contestant(name, explainer.layer, _maps_of(explainer), explainer)
        if len(found) == before and methods:
            raise refused[0][1]
        for layer, reason in refused if methods else ():
            on_left_out(f"{name} at {layer or 'its own layer'}: {reason}")
    if not found:
        raise MethodError(f"no method fits {model.name}; name one with --methods: {', '.join(METHODS)}")
    for name, baseline in BASELINES.items():
        found[name, ""] = Contestant(name, "", _plain(baseline), None)
    return list(found.values())


def _maps_of(explainer: Explainer) -> Maps:
    return lambda pixels, classes, _: explainer(pixels, np.asarray(classes)).maps


def _plain(baseline: Baseline) -> Maps:
    return lambda pixels, classes, names: baseline(names, classes.shape[1], pixels.shape[1:3])
