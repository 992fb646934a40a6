"""The registry, and the page that is made from it."""

from pathlib import Path

import pytest

from camjax.methods.registry import METHODS, MethodError, find_method
from camjax.methods.table import page

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_the_registrys():
    assert PAGE.read_text("utf-8") == page(), "python -m camjax.methods.table > docs/methods.md"


def test_every_method_says_what_it_is():
    for name, method in METHODS.items():
        assert name == method.name == name.lower()
        for text in (method.what, method.paper, method.passes, method.needs):
            assert text
            assert "\n" not in text
            assert "|" not in text


def test_a_wrong_name_has_suggestions_and_a_method_is_itself():
    with pytest.raises(MethodError, match=r"'gradcam\+\+'.*did you mean .*grad-cam\+\+"):
        find_method("gradcam++")
    assert find_method(METHODS["fem"]) is METHODS["fem"]
