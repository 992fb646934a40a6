"""The shape checks of the test run raise where they should: a check that cannot fail is none."""

import dataclasses
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from checked import check
from checked import jaxtyped as checked
from jaxtyping import Float, PyTree, UInt8

from camjax.core.maps import upsample
from camjax.images.geometry import Geometry

Picture = UInt8[np.ndarray, "h w 3"]
PICTURE = np.zeros((4, 5, 3), np.uint8)


@checked()
def beside(one: Picture, other: Picture | None = None, *, factor: int = 1) -> Picture:
    return one if factor == 1 else one[::factor]


def test_arguments_and_results_are_checked():
    np.testing.assert_array_equal(beside(PICTURE, PICTURE), PICTURE)
    for wrong in (PICTURE[0], PICTURE.astype(np.float32), PICTURE.tolist()):
        with pytest.raises(BeartypeCallHintViolation):
            beside(wrong)
    with pytest.raises(BeartypeCallHintViolation):
        beside(PICTURE, factor="1")


def test_a_size_means_the_same_in_every_argument_and_in_the_result():
    with pytest.raises(BeartypeCallHintViolation):
        beside(PICTURE, PICTURE[:2])
    with pytest.raises(BeartypeCallHintViolation):
        beside(PICTURE, factor=2)


def test_a_call_inside_a_call_has_sizes_of_its_own():
    @check
    def halved(picture: Picture) -> UInt8[np.ndarray, "h2 w 3"]:
        return beside(np.ascontiguousarray(picture[::2]))

    assert halved(PICTURE).shape == (2, 5, 3)


def test_closures_methods_properties_and_dataclasses_are_checked():
    class Holder:
        @checked()
        def method(self, count: int) -> str:
            return count * "x"

        @checked()
        @classmethod
        def make(cls, count: int) -> str:
            return count * "y"

        @checked()
        @property
        def three(self) -> int:
            return "three"

    @checked()
    @dataclasses.dataclass
    class Option:
        count: int
        later: "Unknown" = None  # noqa: F821

    assert Holder().method(2) == "xx"
    assert Holder.make(2) == "yy"
    assert Option(2).count == 2
    for wrong in (
        lambda: Holder().method("2"),
        lambda: Holder.make("2"),
        lambda: Holder().three,
        lambda: Option("2"),
    ):
        with pytest.raises(BeartypeCallHintViolation):
            wrong()


def test_closures_of_one_code_are_each_checked_as_they_say():
    def times(factor, *, size):
        @check
        def product(one: Float[np.ndarray, f"{size}"], *, more: int = factor) -> Float[np.ndarray, f"{size}"]:
            return one * factor * more

        return product

    for factor, size in ((2, 3), (5, 3), (7, 4), (2, 4)):
        product = times(factor, size=size)
        np.testing.assert_array_equal(product(np.ones(size)), np.full(size, factor**2))
        with pytest.raises(BeartypeCallHintViolation):
            product(np.ones(7 - size))
        with pytest.raises(BeartypeCallHintViolation):
            product(np.ones(size), more="1")


def test_a_check_that_serves_several_closures_calls_each():
    def times(factor):
        @check
        def product(count: int, *, more: int = factor) -> int:
            return count * factor * more

        return product

    for factor in (2, 5, 7):
        assert times(factor)(3) == 3 * factor**2
        with pytest.raises(BeartypeCallHintViolation):
            times(factor)("3")


def test_a_check_that_is_kept_keeps_no_array_alive():
    def holder(array):
        @check
        def shape(count: int) -> tuple[int, ...]:
            return count * array.shape

        return shape

    array = np.ones(3)
    gone = weakref.ref(array)
    assert holder(array)(2) == (3, 3)
    del array
    gc.collect()
    assert gone() is None


def test_generators_and_trees_of_arrays():
    @check
    def rows(count: int) -> Iterator[Float[np.ndarray, " n"]]:
        yield from np.zeros((count, 2))

    @check
    def beside(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> Iterator[Float[np.ndarray, " n"]]:
        yield one + other

    @check
    def total(tree: PyTree[Float[np.ndarray, " n"]]) -> float:
        return sum(leaf.sum() for leaf in tree.values())

    assert len(list(rows(3))) == 3
    assert total({"a": np.ones(2), "b": np.ones(2)}) == 4.0
    with pytest.raises(jaxtyping.TypeCheckError):
        rows("3")
    assert len(list(beside(np.ones(2), np.ones(2)))) == 1
    with pytest.raises(jaxtyping.TypeCheckError):
        beside(np.ones(2), np.ones(3))
    with pytest.raises(BeartypeCallHintViolation):
        total({"a": np.ones(2), "b": np.ones((2, 2))})
    with pytest.raises(BeartypeCallHintViolation):
        total({"a": np.ones(2), "b": np.ones(3)})


def test_a_function_that_says_nothing_is_left_alone():
    def anything(one: Any, two=2):
        return one

    assert check(anything) is anything


@pytest.mark.usefixtures("untyped")
def test_the_checks_can_be_switched_off():
    assert beside([1]) == [1]


def test_camjax_is_checked():
    assert jaxtyping.jaxtyped is checked
    with pytest.raises(BeartypeCallHintViolation):
        upsample(np.zeros(3), (4, 4))
    with pytest.raises(BeartypeCallHintViolation):
        Geometry(3, (1, 2), (3, 4), 1.0, "bicubic")
