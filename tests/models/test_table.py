"""The page of networks is the registry's."""

from pathlib import Path

from camjax.models.registry import FAMILIES
from camjax.models.table import page, short

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architectures.md"


def test_the_page_is_the_registrys():
    assert PAGE.read_text("utf-8") == page(), "python -m camjax.models.table > docs/architectures.md"


def test_the_readmes_table_is_the_registrys():
    text = (ROOT / "README.md").read_text("utf-8")
    assert f"\n\n{short()}\n" in text, "python -m camjax.models.table --short"


def test_every_family_has_a_title():
    assert all(family.title for family in FAMILIES.values())
