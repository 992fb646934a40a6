"""What a map explains: a score a class, or one a picture, as a function of what the network gives."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from camjax.choices import NamedTarget
from camjax.core.model import Activation, probabilities_of
from camjax.core.precision import at_least_float32
from camjax.core.result import CamResult
from camjax.errors import CamjaxError
from camjax.methods.classes import at_classes, top_classes


class MethodError(CamjaxError, ValueError):
    """There is no such method, or it does not fit the network."""


Target = NamedTarget | Callable[[Array], Array]
"""`"logit"`, `"probability"` (see `camjax.Model.activation`), or a function of what the network gives for a batch that
gives one score a class, `(b, n)`, or one a picture, `(b,)`."""


def check_target(target: Target) -> None:
    """Raises a ValueError unless it is one."""
    if target not in get_args(NamedTarget) and not callable(target):
        raise ValueError(f"target is 'logit', 'probability' or a function of the logits, not {target!r}")


@dataclasses.dataclass(frozen=True)
class Probability:
    """The target `"probability"` of a model with an activation, as a function of its outputs.

    Attributes:
        activation: The model's activation; None is the usual one for its number of outputs.
    """

    activation: Activation | None

    def __call__(self, outputs: Float[Array, "b n"]) -> Float[Array, "b n"]:
        """Computes the probabilities of all classes."""
        return probabilities_of(outputs, self.activation)


def resolved(target: Target, activation: Activation | None) -> Target:
    """Returns the target, `"probability"` as the function that computes it with a model's activation.

    A program resolves its target once; `score_table` then needs to know nothing of the model.
    """
    return Probability(activation) if isinstance(target, str) and target == "probability" else target


def score_table(outputs: Float[Array, "b ..."], target: Target) -> Float[Array, "b n"]:
    """The scores; one score a picture is a table with one column.

    Args:
        outputs: Whatever the network gives for a batch, `(b, n)` or any other shape with the batch first.
        target: The score that is explained. `"probability"` that was not `resolved` is that of a model without an
            activation of its own.

    Raises:
        ValueError: they are neither one a class nor one a picture.
    """
    outputs = outputs.astype(at_least_float32(outputs.dtype))
    if callable(target):
        scores = target(outputs)
        made = f"the target gives {scores.shape}"
    else:
        scores = probabilities_of(outputs) if target == "probability" else outputs
        made = f"the network gives {outputs.shape}"
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or scores.shape[0] != outputs.shape[0]:
        raise ValueError(
            f"{made} for {outputs.shape[0]} pictures, neither one score a class (b, n) nor one a picture (b,); give "
            "target= a function that makes one of these"
        )
    return scores


class Wanted(NamedTuple):
    """What is asked of a method.

    Attributes:
        target: what is explained, `resolved`; see `camjax.make_explainer`.
        classes: `(k,)` or `(b, k)` int32, or None for the top ones.
        top_k: how many.
        activation: The model's activation, by which outputs become probabilities.
    """

    target: Target
    classes: Int[Array, "*some k"] | None
    top_k: int
    activation: Activation | None = None

    def or_own(self, target: Target | None) -> Target:
        """Returns the target of a method that weighs by a score of its own, `resolved`; None is the explained one."""
        return self.target if target is None else resolved(target, self.activation)


def chosen_classes(scores: Float[Array, "b n"], wanted: Wanted) -> Int[Array, "b k"]:
    """The classes asked for, for every picture, or those of the highest scores (all, where there are fewer)."""
    if wanted.classes is not None:
        return jnp.broadcast_to(wanted.classes, (scores.shape[0], wanted.classes.shape[-1]))
    return jax.vmap(lambda row: top_classes(row, min(wanted.top_k, scores.shape[-1])))(scores)


def scores_at(scores: Float[Array, "*some b n"], classes: Int[Array, "b k"]) -> Float[Array, "*some b k"]:
    """Each picture's scores at its own classes; NaN for a class that does not exist."""
    at: Callable[[Array, Array], Array] = jax.vmap(at_classes, (-2, 0), -2)
    return at(scores, classes)


def answer(
    outputs: Float[Array, "b ..."],
    scores: Float[Array, "b n"],
    classes: Int[Array, "b k"],
    maps: Float[Array, "b k *space"],
) -> CamResult:
    """Returns the explanation that those make.

    A map is NaN where the score that it explains is no finite number, or the class does not exist: what a method makes
    of the activations of a network that overflowed may look like any other map. The probabilities are NaN: the
    explainer, which knows the model's activation, fills them in for every method.
    """
    known = jnp.isfinite(scores_at(scores, classes))
    maps = jnp.where(jnp.expand_dims(known, tuple(range(2, maps.ndim))), maps, jnp.nan)
    return CamResult(outputs, classes, jnp.full(classes.shape, jnp.nan, scores.dtype), maps)


def probabilities_at(outputs: Float[Array, "b ..."], wanted: Wanted, classes: Int[Array, "b k"]) -> Float[Array, "b k"]:
    """Computes the probabilities of each image's classes from the network's outputs.

    Args:
        outputs: Whatever the network gives for the batch.
        wanted: The target and the model's activation.
        classes: Numbers of the explained classes, int32.

    Returns:
        float32 or wider; NaN for a class that does not exist, and where the target is not one score per output.
    """
    scores = jax.eval_shape(functools.partial(score_table, target=wanted.target), outputs)
    if outputs.shape != scores.shape:
        return jnp.full(classes.shape, jnp.nan, scores.dtype)
    return scores_at(probabilities_of(outputs, wanted.activation), classes)
