"""What JAX compares to tell whether a program is compiled already: by value where it can be, else by identity."""

from typing import Any


class Comparable:
    """Anything, with an equality and a hash: its own where it has a hash, which is computed once, else its identity.

    A module with a list among its attributes, or an array among its arguments, has none.

    Attributes:
        value: what it stands for. It is kept alive, so that no other takes its identity.
    """

    def __init__(self, value: Any) -> None:  # noqa: ANN401
        self.value = value
        try:
            self._hash, self._own = hash(value), True
        except TypeError:
            self._hash, self._own = id(value), False

    def __reduce__(self) -> tuple[type["Comparable"], tuple[Any]]:
        """Made anew where it is unpickled or copied: hashes and identities are others there."""
        return Comparable, (self.value,)

    def __repr__(self) -> str:
        """Its kind alone: JAX asks functions for their text in order to name them, and a network's is long."""
        return f"Comparable({type(self.value).__name__})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Comparable) or self._hash != other._hash:
            return False
        return self.value is other.value or (self._own and other._own and bool(self.value == other.value))

    def __hash__(self) -> int:
        return self._hash
