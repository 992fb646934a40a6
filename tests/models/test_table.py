"""The page of networks is the registry's."""

from pathlib import Path

from camjax.models.registry import FAMILIES
from camjax.models.table import page

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"


def test_the_page_is_the_registrys():
    assert PAGE.read_text("utf-8") == page(), "python -m camjax.models.table > docs/architectures.md"


def test_every_family_has_a_title():
    assert all(family.title for family in FAMILIES.values())
