"""What the first process does before a run: it makes the store, or checks that the one that is there is the run's."""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from camjax.batch import plan as plans
from camjax.batch import store
from camjax.batch.entries import Entry
from camjax.batch.listing import check_list, write_list
from camjax.batch.sizes import KEY
from camjax.core.model import Model, activation_of
from camjax.explain.explainer import Explainer


def prepare_store(
    out: str,
    entries: Callable[[], Iterable[Entry]],
    plan: plans.Plan,
    model: Model,
    explainer: Explainer,
    resume: bool,
) -> None:
    """Leaves a store with its list and its arrays, empty or filled in part; or, after an error, what was there before.

    Args:
        out: the store.
        entries: begins the list of pictures, from its start at every call.
        plan: the options.
        model: whose labels and name the store keeps.
        explainer: of the model.
        resume: whether a store may be there.

    Raises:
        CamjaxError: the list, the options or the store are not as they have to be.
        OSError: the disk is full, or another failure to write.
    """
    there = store.exists(out)
    if there:
        if not resume:
            raise store.StoreError(f"{out} is there already; go on with --resume, or choose another --out")
        group = store.open_store(out, mode="r+")
        store.remove_leftovers(out)
        if store.is_listed(group.attrs):
            _check(group, entries, plan, model)
            return
    try:
        _begin(out, entries, plan, model, explainer)
    except Exception:
        if not there and store.exists(out):
            store.discard(out)
        raise


def _check(group: store.Group, entries: Callable[[], Iterable[Entry]], plan: plans.Plan, model: Model) -> None:
    size = plan.batch_size or group.attrs["run"]["batch_size"]
    store.check_options(group, dataclasses.replace(plan, batch_size=size).attributes(model))
    check_list(group, entries)
    store.check_labels(group, model.labels)
    store.consolidate(group)


def _begin(
    out: str, entries: Callable[[], Iterable[Entry]], plan: plans.Plan, model: Model, explainer: Explainer
) -> None:
    group, auto = store.begin(out), plan.batch_size is None
    plan = dataclasses.replace(plan, batch_size=plans.batch_size(write_list(group, entries()), plan.batch_size))
    map_size = _map_size(explainer, plan.size(model))
    chunk = plans.chunk_size(plan.batch_size or 1, plan.top_k, map_size)
    attributes = plan.attributes(model) | ({KEY: []} if auto else {})
    store.allocate(
        group,
        chunk=chunk,
        top_k=plan.top_k,
        map_size=map_size,
        unit=plan.unit,
        labels=model.labels,
        activation=activation_of(model.activation, len(model.labels)),
        attributes=attributes,
    )


def _map_size(explainer: Explainer, size: tuple[int, int]) -> tuple[int, int]:
    height, width = jax.eval_shape(explainer, jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)).maps.shape[-2:]  # type: ignore[no-untyped-call]
    return height, width
