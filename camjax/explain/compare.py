"""Many methods on one picture, for the same classes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
from jax.typing import DTypeLike

from camjax.choices import MAX_PIXELS, Kind, NamedTarget, Sign
from camjax.core.model import Model
from camjax.explain.cost import passes
from camjax.explain.explainer import Explainer, make_explainer
from camjax.explain.explanation import Explanation, checked_classes, class_names, explain_prepared, shown
from camjax.explain.pipeline import read_options, read_prepared
from camjax.methods.method import Method
from camjax.methods.registry import METHODS, MethodError, find_method

MOST_PASSES = 3000.0
"""Passes through the network that a method may take where nobody named it: two minutes of ResNet-50 on two cores."""


def compare_methods(
    model: Model,
    path: Path,
    methods: Sequence[str | Method] | None = None,
    *,
    top_k: int | None = None,
    classes: Sequence[int | str] | None = None,
    geometry: Kind = "pad",
    input_size: tuple[int, int] | None = None,
    layer: str | None = None,
    target: NamedTarget = "logit",
    sign: Sign = "both",
    dtype: DTypeLike = jnp.float32,
    max_pixels: int = MAX_PIXELS,
    window: tuple[float, float] | None = None,
    on_begin: Callable[[str], None] = lambda name: None,
    on_left_out: Callable[[str, str], None] = lambda name, reason: None,
) -> Iterator[Explanation]:
    """Explains a picture by one method after the other; each is a program of its own, which takes time to compile.

    Args:
        model: from `load_model`, or your own.
        path: the picture's file.
        methods: which; None is every method that fits the network and takes no more than `MOST_PASSES`.
        top_k: how many classes; what the first method finds, all explain. None is five, or all of them where there are
            fewer.
        classes: explain these instead, by number or name.
        geometry: how the picture gets the input's proportions; see `explain_pictures`.
        input_size: `(height, width)` of what the network sees; None is the weights' own.
        layer: what methods that look at a layer explain; None is the model's own. Those that look at the picture do so
            whatever it is.
        target: what is explained.
        sign: which side of the maps; see `camjax.make_explainer`.
        dtype: what the network computes in.
        max_pixels: An image with more pixels is refused; at least 1.
        window: The values `(low, high)` of a grey image of more than 8 bits that become 0 and 255; None chooses them by
            the image, and warns where they are not the full range of the values' type.
        on_begin: called with each method's name before it.
        on_left_out: called with the name of a method that is left out and the reason, where `methods` is None.

    Yields:
        An explanation for each method that is not left out.

    Raises:
        PictureError: the picture cannot be read.
        LabelError: a class does not exist, or a name belongs to several.
        LayerError: there is no such layer.
        MethodError: there is no such method, or one that was named does not fit the network.
        ValueError: an option cannot be.
    """
    chosen = list(METHODS.values()) if methods is None else [find_method(method) for method in methods]
    names = class_names(model)
    wanted = None if classes is None else checked_classes(classes, names)
    preprocess = shown(model, input_size)
    options = read_options(preprocess.input_size, max_pixels, window)
    prepared = read_prepared(path, preprocess, geometry, options)
    for method in chosen:
        on_begin(method.name)
        try:
            explainer = make_explainer(
                model,
                method=method,
                layer=method.layer or layer,
                target=target,
                top_k=top_k if wanted is None else 1,
                sign=sign,
                dtype=dtype,
            )
            if methods is None and (reason := _too_slow(explainer, preprocess.input_size)):
                on_left_out(method.name, reason)
                continue
            explanation = explain_prepared(explainer, path, prepared, names, wanted)
        except MethodError as error:
            if methods is not None:
                raise
            on_left_out(method.name, str(error))
            continue
        wanted = explanation.classes
        yield explanation


def _too_slow(explainer: Explainer, size: tuple[int, int]) -> str | None:
    count = passes(explainer, size)
    if count <= MOST_PASSES:
        return None
    return f"takes {count:,.0f} passes through the network; name it in --methods if it may take that long"
