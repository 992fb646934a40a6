"""Layers by name: values, gradients and replacements equal those written out by hand, under every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.ad_checkpoint import checkpoint_name

from camjax import LayerError, tap
from camjax.core.names import cut, named_arrays, traced_once

RNG = np.random.default_rng(0)


def drawn(*shape):
    return jax.device_put(RNG.normal(size=shape).astype(np.float32))  # for which JAX compiles nothing


PARAMS = {"a": drawn(3, 4), "b": drawn(4, 2)}
X = drawn(5, 3)


def network(params, x):
    """Names at the top, inside an inner `jit` and inside `remat`."""
    x = checkpoint_name(jnp.tanh(x @ params["a"]), "first")
    x = jax.jit(lambda x: checkpoint_name(jnp.sin(2 * x), "jitted"))(x)
    x = jax.checkpoint(lambda x: checkpoint_name(jax.nn.relu(x) @ params["b"], "rematerialised"))(x)
    return (x**3).sum(-1)


@functools.partial(jax.jit, static_argnums=0)
def tail(name, params, a):
    """What `network` does after a name, by hand."""
    if name == "first":
        a = jnp.sin(2 * a)
    if name != "rematerialised":
        a = jax.nn.relu(a) @ params["b"]
    return (a**3).sum(-1)


NAMES = ("first", "jitted", "rematerialised")


def value(name, params=PARAMS, x=X):
    return tap(network, read=[name])(params, x)[1][name]


@pytest.mark.parametrize("name", NAMES)
def test_reads_adds_and_replaces_as_by_hand(name):
    logits, arrays = tap(network, read=[name])(PARAMS, X)
    a = arrays[name]
    np.testing.assert_array_equal(logits, network(PARAMS, X))
    np.testing.assert_allclose(tail(name, PARAMS, a), logits, rtol=1e-6)
    other = drawn(*a.shape)
    np.testing.assert_allclose(tap(network, replace={name: other})(PARAMS, X)[0], tail(name, PARAMS, other), rtol=1e-5)
    added, seen = tap(network, add={name: other}, read=[name])(PARAMS, X)
    np.testing.assert_allclose(added, tail(name, PARAMS, a + other), rtol=1e-5)
    np.testing.assert_array_equal(seen[name], a + other)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_second_derivatives_as_by_hand(name):
    a = value(name)
    zeros, tangent = np.zeros_like(a), np.ones_like(a)

    def tapped(d):
        return tap(network, add={name: d})(PARAMS, X)[0].sum()

    def by_hand(d):
        return tail(name, PARAMS, a + d).sum()

    def derivatives(f):
        return lambda d: (
            jax.grad(f)(d),
            jax.jvp(jax.grad(f), (d,), (tangent,))[1],
            jax.jvp(f, (d,), (tangent,))[1],
            jax.vjp(jax.grad(f), d)[1](tangent)[0],
        )

    found, expected = (jax.jit(derivatives(f))(zeros) for f in (tapped, by_hand))
    eager = jax.grad(tapped)(zeros)
    for one, other in zip((eager, *found), (expected[0], *expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_both_halves_of_a_cut_function(name):
    a, rest = cut(network, name)(PARAMS, X)
    np.testing.assert_array_equal(a, value(name))
    np.testing.assert_array_equal(rest(a), network(PARAMS, X))
    other = drawn(*a.shape)
    np.testing.assert_allclose(rest(other), tail(name, PARAMS, other), rtol=1e-5)
    known, rest_of_known = cut(network, name, other)(PARAMS, X)
    assert known is other
    np.testing.assert_array_equal(rest_of_known(other), rest(other))

    # Parameters before the name and after it, through both halves.
    def both(params):
        a, rest = cut(network, name)(params, X)
        return rest(2 * a).sum()

    def by_hand(params):
        return tail(name, params, 2 * value(name, params)).sum()

    @jax.jit
    def gradients(a, params):
        return (
            (jax.grad(lambda a: rest(a).sum())(a), jax.grad(lambda a: tail(name, PARAMS, a).sum())(a)),
            (jax.grad(both)(params), jax.grad(by_hand)(params)),
        )

    (gradient, expected), (gradient_of_params, expected_of_params) = gradients(a, PARAMS)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), gradient_of_params, expected_of_params)
    with pytest.raises(LayerError, match=r"float32 \(2,\)"):
        rest(jax.device_put(np.zeros(2, np.float32)))
    with pytest.raises(LayerError, match="did you mean first"):
        cut(network, "firs")(PARAMS, X)


def test_a_loop_over_the_second_half_holds_nothing_of_the_first():
    def residual(x):
        x = jnp.exp(x)
        return jnp.cos(x) + jnp.sin(checkpoint_name(jnp.tanh(x), "branch"))

    def program(x):
        _, rest = cut(residual, "branch")(x)
        return jax.lax.map(lambda scale: rest(scale * x), jnp.arange(5.0))

    x = np.arange(3, dtype=np.float32)
    expected = jax.jit(lambda x: jnp.cos(jnp.exp(x)) + jnp.sin(2 * x))(x)
    np.testing.assert_allclose(np.asarray(jax.jit(program)(x))[2], expected, rtol=1e-6)
    equations = jax.make_jaxpr(program)(x).eqns
    (loop,) = [equation for equation in equations if equation.primitive.name == "scan"]
    inside = {equation.primitive.name for equation in loop.params["jaxpr"].jaxpr.eqns}
    assert "sin" in inside
    assert not inside & {"exp", "cos", "tanh"}

    known = jax.make_jaxpr(lambda x: cut(residual, "branch", x)(x)[1](x))(x)
    assert {equation.primitive.name for equation in known.eqns} == {"exp", "cos", "sin", "add"}


def test_a_name_that_a_loop_has_too_can_still_be_reached():
    def network(x):
        x = jax.lax.fori_loop(0, 2, lambda _, x: checkpoint_name(jnp.sin(x), "layer"), x)
        return checkpoint_name(jnp.cos(x), "layer") + 1

    x = jnp.arange(3.0)
    assert list(named_arrays(network, x)) == ["layer"]
    np.testing.assert_allclose(tap(network, read=["layer"])(x)[1]["layer"], jnp.cos(jnp.sin(jnp.sin(x))), rtol=1e-6)


def test_under_vmap_lax_map_and_shard_map():
    a = value("jitted")
    changes = RNG.normal(size=(6, *a.shape)).astype(np.float32)

    def run(change):
        return tap(network, replace={"jitted": change})(PARAMS, X)[0]

    expected = np.stack([tail("jitted", PARAMS, change) for change in changes])
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(changes), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda c: jax.lax.map(run, c, batch_size=2))(changes), expected, rtol=1e-5)
    one_by_one = jax.vmap(lambda x: tap(network, read=["first"])(PARAMS, x[None])[1]["first"][0])(X)
    np.testing.assert_allclose(one_by_one, value("first"), rtol=1e-6)

    mesh = jax.make_mesh((5,), ("data",), devices=jax.devices()[:5], axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("data")
    mapped = jax.shard_map(
        functools.partial(tap(network, read=["jitted"]), PARAMS), mesh=mesh, in_specs=rows, out_specs=(rows, rows)
    )
    np.testing.assert_allclose(jax.jit(mapped)(X)[1]["jitted"], a, rtol=1e-6)


@pytest.mark.parametrize("axes", list(jax.sharding.AxisType)[:2])
def test_a_sharded_batch_stays_sharded(axes):
    mesh = jax.make_mesh((5,), ("data",), devices=jax.devices()[:5], axis_types=(axes,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    logits, arrays = jax.jit(tap(network, read=["rematerialised"]))(PARAMS, jax.device_put(X, rows))
    for array in (logits, arrays["rematerialised"]):
        assert array.sharding.is_equivalent_to(rows, array.ndim)
    np.testing.assert_allclose(logits, network(PARAMS, X), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["jit", "remat", "plain"]), min_size=1, max_size=5), st.data())
def test_any_nesting_of_jit_and_remat(wrappers, data):
    def nested(x):
        for number, wrapper in enumerate(wrappers):
            wrap = {"jit": jax.jit, "remat": jax.checkpoint, "plain": lambda f: f}[wrapper]
            inner = wrap(lambda x, name=f"layer{number}": checkpoint_name(jnp.cos(x) + 1, name))
            x = jax.jit(inner)(x) if number % 2 else inner(x)
        return x.sum()

    name = f"layer{data.draw(st.integers(0, len(wrappers) - 1))}"
    x = np.arange(3, dtype=np.float32)
    steps = [x]
    for _ in wrappers:
        steps.append(np.cos(steps[-1]) + 1)
    (result, arrays), expected = jax.jit(lambda x: (tap(nested, read=[name])(x), nested(x)))(x)
    np.testing.assert_allclose(arrays[name], steps[int(name[5:]) + 1], rtol=1e-6)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_what_only_a_replaced_layer_needed_is_not_computed():
    a = value("rematerialised")
    program = jax.make_jaxpr(tap(network, replace={"rematerialised": a}))(PARAMS, X)
    operations = {equation.primitive.name for equation in program.eqns}
    assert not operations & {"dot_general", "tanh", "sin", "jit"}
    # Also in a loop, whose body holds the tail alone.
    looped = jax.jit(lambda c: jax.lax.map(lambda c: tap(network, replace={"first": c})(PARAMS, X)[0], c))
    text = looped.lower(jnp.zeros((3, *value("first").shape))).compile().as_text()
    assert "tanh" not in text
    assert "sine" in text


def test_a_layer_that_a_path_goes_round_still_counts():
    def residual(x):
        return jnp.exp(x) + checkpoint_name(jnp.sin(x), "branch")

    x = jnp.arange(3.0)
    np.testing.assert_allclose(tap(residual, replace={"branch": jnp.zeros(3)})(x)[0], jnp.exp(x), rtol=1e-6)


def test_names_that_nobody_asks_for_leave_nothing():
    def text(function):
        return jax.jit(function).lower(PARAMS, X).compile().as_text()

    assert "first" not in text(network)
    alone = text(lambda params, x: tap(network, read=["first"])(params, x)[1]["first"])
    assert alone.count(" dot(") == 1
    assert "sine" not in alone


def test_several_arrays_of_one_name_are_numbered():
    def twice(x):
        for _ in range(2):
            x = checkpoint_name(2 * x, "double")
        return x

    one = jnp.ones(1)
    assert list(named_arrays(twice, one)) == ["double:0", "double:1"]
    assert tap(twice, read=["double:0"])(one)[1]["double:0"] == 2
    assert tap(twice, replace={"double:0": jnp.asarray([5.0])})(one)[0] == 10
    assert tap(twice, add={"double:1": jnp.asarray([5.0])})(one)[0] == 9
    with pytest.raises(LayerError, match="2 arrays are called 'double'; choose one of double:0 to double:1"):
        tap(twice, read=["double"])(one)


def test_lists_names_shapes_and_dtypes_in_order():
    found = named_arrays(network, PARAMS, jax.ShapeDtypeStruct((7, 3), jnp.float32))
    assert {name: value.shape for name, value in found.items()} == {
        "first": (7, 4),
        "jitted": (7, 4),
        "rematerialised": (7, 2),
    }
    assert list(found) == list(NAMES)


def scanned(x):
    return jax.lax.scan(lambda c, _: (checkpoint_name(c * 2, "inside"), None), x, None, length=3)[0]


def looped(x):
    return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: checkpoint_name(c * 2, "inside"), x)


def branched(x):
    return jax.lax.cond(x.sum() > 0, lambda c: checkpoint_name(c * 2, "inside"), lambda c: c, x)


@jax.custom_jvp
def derived(x):
    return checkpoint_name(x * 2, "inside")


derived.defjvp(lambda primals, tangents: (derived(*primals), 2 * tangents[0]))


@jax.custom_vjp
def pulled_back(x):
    return checkpoint_name(x * 2, "inside")


pulled_back.defvjp(lambda x: (pulled_back(x), None), lambda _, cotangent: (2 * cotangent,))


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (scanned, "scan"),
        (looped, "while"),
        (branched, "cond"),
        (derived, "custom_jvp_call"),
        (pulled_back, "custom_vjp_call"),
    ],
)
def test_a_name_that_cannot_be_reached_says_so(function, kind):
    with pytest.raises(LayerError, match=rf"'inside' stands inside '{kind}'.*name what comes out"):
        tap(function, read=["inside"])(jnp.ones(2))
    assert named_arrays(function, jnp.ones(2)) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"read": ["frist"]}, "no layer is called 'frist'; did you mean first"),
        (
            {"add": {"first": jnp.zeros((5, 3))}},
            r"put at layer 'first' is float32 \(5, 3\), the layer float32 \(5, 4\)",
        ),
        ({"replace": {"first": jnp.zeros((5, 4), jnp.bfloat16)}}, "bfloat16"),
    ],
)
def test_what_does_not_fit_is_named(options, words):
    with pytest.raises(LayerError, match=words):
        tap(network, **options)(PARAMS, X)


def test_traced_once_however_often_it_is_tapped():
    calls = []

    def counted(params, x):
        calls.append(x)
        return network(params, x)

    once = traced_once(counted)
    (expected, arrays), (_, others) = (tap(counted, read=[name])(PARAMS, X) for name in ("first", "jitted"))
    calls.clear()
    found, seen = tap(once, read=["first"])(PARAMS, X)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(seen["first"], arrays["first"], rtol=1e-6)
    np.testing.assert_allclose(tap(once, read=["jitted"])(PARAMS, X)[1]["jitted"], others["jitted"], rtol=1e-6)
    assert named_arrays(once, PARAMS, X) == named_arrays(network, PARAMS, X)
    assert len(calls) == 1
