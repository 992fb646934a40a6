"""Programs on explicit mesh axes: XLA places their intermediate arrays, the batch stays as it lies."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec

T = TypeVar("T")


def with_automatic_axes(function: Callable[..., T], batch: Array, axes: int) -> Callable[..., T]:
    """Lets XLA place the intermediate arrays where a mesh has explicit axes (`jax.make_mesh`'s default).

    A gather by class, or a reshape that splits the batch, cannot say where its result lies.

    Args:
        function: its results all begin with the batch's axes.
        batch: an argument of it.
        axes: how many axes of that are the batch's.

    Returns:
        The function; on explicit axes its results are sharded as the batch is.
    """
    sharding: Any = jax.typeof(batch).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return function
    spec = PartitionSpec(*sharding.spec[:axes])  # type: ignore[no-untyped-call]
    return jax.sharding.auto_axes(function, out_sharding=NamedSharding(sharding.mesh, spec))
