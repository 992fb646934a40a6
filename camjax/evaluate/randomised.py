"""Whether maps are the network's: those of the same method where parameters are shuffled, the last ones first.

Adebayo et al. 2018 draw parameters anew as each kind of layer begins. How a network of one's own began is not known, so
each array's own values are shuffled.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Jaxpr, Literal
from jaxtyping import Float, Int, PyTree, UInt8

from camjax.core.inference import compiler_options, platform_of
from camjax.core.model import Model, Params
from camjax.core.program import ENTERED, inner_programs
from camjax.explain.explainer import Explainer
from camjax.metrics.robustness import randomisation

PARTS = 5
"""Of the parameters, one more of which is shuffled at each step."""

Met = frozenset[int] | None
"""The parameters that a value is made of; None where the picture is part of it."""


class Randomised:
    """Compares maps of one network with those of its shuffled parameters.

    Attributes:
        steps: of each parameter the step at which it is shuffled, from 0, the network's end; -1 is never.
    """

    def __init__(self, model: Model) -> None:
        self.steps = steps_of(model)
        self._model = model
        platform = platform_of(model.params)

        def similar(explainer: Explainer, others: Params, images: Array, classes: Array) -> Array:
            def explain(params: Params) -> Array:
                return explainer.with_params(params)(images, classes).maps

            return randomisation(explain, explainer.params, others, self.steps).mean(0)

        # The parameters are arguments, so that all steps are one program.
        self._similar = jax.jit(similar, compiler_options=compiler_options(platform))

    def __call__(
        self, explainer: Explainer, images: UInt8[Any, "b h w 3"], classes: Int[Any, "b k"]
    ) -> Float[Array, "b k"]:
        """How alike a method's maps stay: Spearman's correlation of their sizes, a mean over the steps."""
        return self._similar(explainer, self._others, images, classes)

    @functools.cached_property
    def _others(self) -> Params:
        return shuffled(self._model.params, self.steps)


def shuffled(params: Params, steps: PyTree[int], seed: int = 0) -> Params:
    """The parameters, the values of each array in another order.

    Args:
        params: the network's.
        steps: see `Randomised`; what is never shuffled stays.
        seed: of the order.
    """
    leaves, structure = jax.tree.flatten(params)
    found = []
    for number, (leaf, step) in enumerate(zip(leaves, jax.tree.leaves(steps), strict=True)):
        if step >= 0:
            order = np.random.default_rng([seed, number])
            leaf = jnp.asarray(order.permutation(np.asarray(leaf).ravel()).reshape(np.shape(leaf)))
        found.append(leaf)
    return jax.tree.unflatten(structure, found)


def steps_of(model: Model, parts: int = PARTS) -> PyTree[int]:
    """In which of as many parts, as equal as can be, each parameter is; 0 is the network's end.

    Args:
        model: the network.
        parts: how many.

    Returns:
        A tree as the parameters'; -1 for what is no floating number, or never meets the picture.
    """
    leaves, structure = jax.tree.flatten(model.params)
    order = [number for number in order_of_use(model) if jnp.issubdtype(leaves[number].dtype, jnp.floating)]
    parts = min(parts, len(order))
    steps = dict.fromkeys(range(len(leaves)), -1)
    steps |= {number: place * parts // len(order) for place, number in enumerate(reversed(order))}
    return jax.tree.unflatten(structure, list(steps.values()))


def order_of_use(model: Model) -> list[int]:
    """The numbers of the parameters among the tree's leaves, in the order in which they meet the picture.

    What is computed of parameters alone, as a cast of all of them at the start, is not yet a meeting.
    """
    images = jax.ShapeDtypeStruct(model.image_shape(), jnp.float32)  # type: ignore[no-untyped-call]
    program = jax.make_jaxpr(model.forward)(model.params, images).jaxpr
    order: dict[int, None] = {}
    leaves: list[Met] = [frozenset([number]) for number in range(len(program.invars) - 1)]
    _follow(program, [*leaves, None], order)
    return list(order)


def _follow(program: Jaxpr, inputs: Sequence[Met], order: dict[int, None]) -> list[Met]:
    """What a program's results are made of; parameters that meet the picture are added to the order."""
    made: dict[Any, Met] = dict.fromkeys(program.constvars, frozenset())
    made |= zip(program.invars, inputs, strict=True)

    def of(atom: Any) -> Met:  # noqa: ANN401
        return frozenset() if isinstance(atom, Literal) else made[atom]

    for equation in program.eqns:
        own = [of(atom) for atom in equation.invars]
        inner = list(inner_programs(equation))
        if equation.primitive.name in ENTERED and len(inner) == 1 and len(inner[0].invars) == len(own):
            made |= zip(equation.outvars, _follow(inner[0], own, order), strict=True)
            continue
        parts = [met for met in own if met is not None]
        together: Met = frozenset().union(*parts)
        if len(parts) < len(own):
            order |= dict.fromkeys(sorted(frozenset().union(*parts)))
            together = None
        made |= dict.fromkeys(equation.outvars, together)
    return [of(atom) for atom in program.outvars]
