"""Programs on meshes: where their arrays lie, and what varies over them."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import Array, lax
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
        The function; where the batch lies on explicit axes, its results are sharded as the batch is, and where only
        other arguments do, they are on every device of those.
    """

    def placed(*arguments: Any) -> T:  # noqa: ANN401
        # The batch's own mesh goes before that of weights.
        given: list[Any] = [jax.typeof(leaf).sharding for leaf in jax.tree.leaves((batch, arguments))]
        explicit = [sharding for sharding in given if AxisType.Explicit in sharding.mesh.axis_types]
        if not explicit:
            return function(*arguments)
        own = given[0].spec[:axes] if explicit[0] is given[0] else ()
        where = NamedSharding(explicit[0].mesh, PartitionSpec(*own))  # type: ignore[no-untyped-call]
        return jax.sharding.auto_axes(function, out_sharding=where)(*arguments)

    return placed


def varying_like(array: Array, like: Array) -> Array:
    """The array, which inside `jax.shard_map` varies over the mesh's axes at least as another does.

    A loop's sums, or what is pulled back, must vary as what they meet; a constant does not by itself.
    """
    types: list[Any] = [jax.typeof(array), jax.typeof(like)]
    ours, theirs = (each.manual_axis_type.varying for each in types)
    missing = tuple(sorted(theirs - ours))
    return lax.pcast(array, missing, to="varying") if missing else array
