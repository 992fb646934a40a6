"""Every method by name, and which is meant. A new gradient method is a rule and an entry in `entries/channels.py`."""

import difflib

from camjax.methods.entries import changes, channels, network
from camjax.methods.method import Method
from camjax.methods.target import MethodError as MethodError

METHODS: dict[str, Method] = {method.name: method for method in (*channels.METHODS, *changes.METHODS, *network.METHODS)}


def find_method(method: str | Method) -> Method:
    """The method of that name; one that is a `Method` already is itself.

    Raises:
        MethodError: there is none; close names are suggested.
    """
    if isinstance(method, Method):
        return method
    if method in METHODS:
        return METHODS[method]
    close = difflib.get_close_matches(method, METHODS) or list(METHODS)
    raise MethodError(f"no method is called {method!r}; did you mean {', '.join(close)}?")
