"""Every method by name. A new gradient method is a rule and a line here."""

import dataclasses
import difflib

from camjax.errors import CamjaxError
from camjax.methods.gradient import Rule, grad_cam, hires_cam


class MethodError(CamjaxError, ValueError):
    """There is no such method, or it does not fit the network."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to explain.

    Attributes:
        name: what `make_explainer` calls it.
        paper: where it comes from.
        rule: of a gradient method; None for CAM, which needs a pooled linear head and no gradient.
    """

    name: str
    paper: str
    rule: Rule | None = None


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("cam", "Zhou et al. 2016"),
        Method("grad-cam", "Selvaraju et al. 2017", grad_cam),
        Method("hires-cam", "Draelos & Carin 2020", hires_cam),
    )
}


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        MethodError: there is none; close names are suggested.
    """
    if name in METHODS:
        return METHODS[name]
    close = difflib.get_close_matches(name, METHODS) or list(METHODS)
    raise MethodError(f"no method is called {name!r}; did you mean {', '.join(close)}?")
