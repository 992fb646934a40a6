"""Convolutions in XLA's canonical form: equal to what they were, and in every loop of camjax's."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import relative_error
from jax import lax
from methods.test_perturbations import WANTED, every_map, looked, pixels_of
from toys import convolutional

from camjax.core.canonical import canonical, scan
from camjax.core.model import Model
from camjax.core.names import named_array
from camjax.core.program import inner_programs
from camjax.methods.augmented import augmented
from camjax.methods.registry import METHODS
from camjax.metrics.robustness import max_sensitivity, randomisation

LAST = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
FORMS = [
    *LAST.values(),
    ("NCW", "OIW", "NCW"),
    ("NHWC", "HWOI", "NHWC"),
    ("NCHW", "OIHW", "NCHW"),
    ("CNHW", "WIHO", "HWNC"),
    ("NCDHW", "OIDHW", "NDHWC"),
]
OPTIONS = {
    "plain": {},
    "strided": {"strides": 2},
    "dilated": {"lhs_dilation": 2, "rhs_dilation": 2},
    "grouped": {"feature_group_count": 2},
    "groups of the batch": {"batch_group_count": 2},
}


def convolve(form, x, kernel, *, strides=1, **options):
    space = x.ndim - 2
    options = {name: (value,) * space if "dilation" in name else value for name, value in options.items()}
    return lax.conv_general_dilated(x, kernel, (strides,) * space, [(1, 2)] * space, dimension_numbers=form, **options)


def operands(form, groups=1):
    """An input and a kernel whose axes have a size each."""
    sizes = {"N": 2, "C": 4, "D": 5, "H": 6, "W": 7}, {"I": 4 // groups, "O": 8, "D": 1, "H": 2, "W": 3}
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=[size[axis] for axis in axes]).astype(np.float32)
        for axes, size in zip(form[:2], sizes, strict=True)
    ]


def convolutions(jaxpr, *, in_loops, inside=False):
    """All of a program, or those in loops alone."""
    for equation in jaxpr.eqns:
        if equation.primitive is lax.conv_general_dilated_p and (inside or not in_loops):
            yield equation
        for inner in inner_programs(equation):
            loop = equation.primitive.name in ("scan", "while")
            yield from convolutions(inner, in_loops=in_loops, inside=inside or loop)


def is_canonical(equation):
    x, kernel = (atom.aval.shape for atom in equation.invars)
    return equation.params["dimension_numbers"] == lax.conv_dimension_numbers(x, kernel, LAST[len(x) - 2])


@pytest.mark.parametrize("options", OPTIONS)
def test_convolutions_of_every_form_are_what_they_were(options):
    options = OPTIONS[options]
    given = [operands(form, options.get("feature_group_count", 1)) for form in FORMS]

    def every(given):
        return [
            jax.jit(functools.partial(convolve, form, **options))(*each)
            for form, each in zip(FORMS, given, strict=True)
        ]

    found, expected = jax.jit(lambda given: (canonical(every, given)(given), every(given)))(given)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert relative_error(one, other) < 1e-6
    made = list(convolutions(jax.make_jaxpr(canonical(every, given))(given).jaxpr, in_loops=False))
    assert len(made) == len(FORMS)
    assert all(map(is_canonical, made))
    before = list(convolutions(jax.make_jaxpr(every)(given).jaxpr, in_loops=False))
    assert sum(map(is_canonical, before)) == len(LAST)


def test_the_way_back_and_forth_is_what_it_was():
    """A gradient's convolutions are of other forms; in `jvp` of `grad`, under `vmap`."""
    form = LAST[2]
    x, kernel = operands(form)

    def score(x, kernel):
        return jnp.sin(convolve(form, x, kernel, strides=2)).sum()

    def curved(x, kernel):
        return jax.vmap(lambda x: jax.jvp(jax.grad(score, (0, 1)), (x, kernel), (x, kernel)))(x)

    xs = np.stack([x, x[::-1]])
    found, expected = jax.jit(lambda *given: (canonical(curved, *given)(*given), curved(*given)))(xs, kernel)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert relative_error(one, other) < 1e-5
    for function, only in ((curved, False), (canonical(curved, xs, kernel), True)):
        program = jax.make_jaxpr(function)(xs, kernel).jaxpr
        assert all(map(is_canonical, convolutions(program, in_loops=False))) == only


def test_kernels_are_turned_before_the_loop():
    form = ("NCHW", "OIHW", "NCHW")
    x, kernel = operands(form)
    xs = np.stack([x, 2 * x])

    def looped(loop, xs, kernel):
        return loop(lambda total, x: (total + convolve(form, x, kernel[::-1]), None), jnp.zeros((2, 8, 8, 8)), xs)[0]

    found, expected = jax.jit(lambda *given: [looped(loop, *given) for loop in (scan, lax.scan)])(xs, kernel)
    assert relative_error(found, expected) < 1e-6
    program = jax.make_jaxpr(functools.partial(looped, scan))(xs, kernel).jaxpr
    (body,) = (equation.params["jaxpr"].jaxpr for equation in program.eqns if equation.primitive.name == "scan")
    made = [equation.invars[1] for equation in body.eqns if equation.primitive is lax.conv_general_dilated_p]
    assert [atom in body.invars for atom in made] == [True]


def test_a_loop_stays_as_it_is_elsewhere(monkeypatch):
    x, kernel = operands(LAST[2])

    def looped(loop):
        return loop(lambda total, _: (total + convolve(("CHWN", "HWIO", "CHWN"), x, kernel).sum(), None), 0.0, x)[0]

    def of_loops(loop):
        return list(convolutions(jax.make_jaxpr(functools.partial(looped, loop))().jaxpr, in_loops=True))

    x = np.moveaxis(x, 0, -1).transpose(2, 0, 1, 3)  # channels first, batch last
    assert all(map(is_canonical, of_loops(scan)))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [is_canonical(each) for each in of_loops(scan)] == [False]


def test_what_is_computed_again_and_what_has_effects_stays():
    """Written out, `jax.checkpoint` would save no memory; a kernel that changes with the round is turned in it."""
    form = ("NCHW", "OIHW", "NCHW")
    x, kernel = operands(form)
    seen = []

    def step(total, scale):
        jax.debug.callback(seen.append, scale)
        again = jax.checkpoint(lambda x: jnp.sin(convolve(form, x, kernel)))
        return total + again(x) + convolve(form, x, kernel * scale), None

    def looped(loop):
        return loop(step, jnp.zeros((2, 8, 8, 8)), np.asarray([1, 3], np.float32))[0]

    found, expected = jax.jit(lambda: [looped(loop) for loop in (scan, lax.scan)])()
    jax.effects_barrier()
    assert relative_error(found, expected) < 1e-6
    assert sorted(map(float, seen)) == [1, 1, 3, 3]
    programs = [str(jax.make_jaxpr(functools.partial(looped, loop))()) for loop in (scan, lax.scan)]
    assert [len(re.findall(r"(?:checkpoint|remat2?)\[", program)) for program in programs] == [1, 1]


def channels_first():
    """The toy with its channels first inside, as Equinox has them."""
    toy = convolutional()

    def forward(params, images):
        x = jnp.moveaxis(images, -1, 1)
        for name, stride in (("first", 2), ("middle", 1), ("last", 1)):
            x = jax.nn.relu(convolve(("NCHW", "HWIO", "NCHW"), x, params[name], strides=stride))
            x = jnp.moveaxis(named_array(jnp.moveaxis(x, 1, -1), name), -1, 1)
        return x.mean((2, 3)) @ params["head"]

    return Model(toy.params, forward)


def every_loop(model, pixels):
    """Whatever asks a network in a loop: methods at an inner layer and at the input, and metrics."""
    others = {
        "middle": [METHODS["smooth-grad-cam++"].explain, augmented("grad-cam").explain],
        "input": [METHODS["full-grad"].explain],
    }
    more = [
        method(looked(layer, pixels, model=model, room=4), WANTED).maps for layer in others for method in others[layer]
    ]

    def explain(pixels, params=model.params):
        return METHODS["grad-cam"].explain(looked("first", pixels, model=model, params=params), WANTED).maps

    steps = {name: number for number, name in enumerate(model.params)}
    draws = jax.tree.map(lambda leaf: leaf[::-1], model.params)
    metrics = max_sensitivity(explain, pixels), randomisation(lambda p: explain(pixels, p), model.params, draws, steps)
    return every_map(pixels, model=model, room=4), more, metrics


@pytest.mark.parametrize("model", [convolutional, channels_first])
def test_every_loop_has_canonical_convolutions(model):
    program = jax.make_jaxpr(functools.partial(every_loop, model()))(pixels_of(2)).jaxpr
    found = list(convolutions(program, in_loops=True))
    assert len(found) > 50
    assert all(map(is_canonical, found))
    assert not all(map(is_canonical, convolutions(program, in_loops=False)))  # XLA's own affair
