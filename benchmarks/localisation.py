"""Whether a method's maps lie on the thing that they explain: a cat and a cup side by side, with pretrained weights.

python -m benchmarks.localisation docs/localisation.md            # every method; an hour or more on two cores
python -m benchmarks.localisation docs/localisation.md layer-cam  # these anew, the other rows as they stand there
"""

import dataclasses
import functools
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from camjax.checkpoints.loading import load_model
from camjax.core.model import Model
from camjax.explain.explainer import make_explainer
from camjax.images.labels import find_classes
from camjax.images.preprocess import normalize_images
from camjax.methods.method import ATTENTION, Explain, Method
from camjax.methods.registry import METHODS
from camjax.methods.score import Score
from camjax.methods.tail import Look, Tail, head_tail
from camjax.methods.target import NamedTarget, Wanted

SIDE = 224
PICTURE = Path(__file__).parents[1] / "examples" / "cat_and_coffee.jpg"
CATS = ("tabby", "tiger cat", "Egyptian cat")
CUPS = ("espresso", "cup", "coffee mug")
ENOUGH = 0.75

FITTING = {name: method for name, method in METHODS.items() if method.needs != ATTENTION}
"""The methods that this network has what they need for."""

FEWER = {
    "ss-cam": (Score(samples=2, std=2.0), "2 noisy masks a channel, not 35"),
    "is-cam": (Score(coefficients=(0.1, 2.1)), "2 coefficients, not 10"),
}
"""Methods of hours, with fewer passes, and what the page says of it."""

PROBABILITY = ("rise", "occlusion")
"""Methods whose papers explain probabilities."""

ABOVE_MEAN = {"rise": "what lies above the map's mean: a map is the mean score of what is shown, never near zero"}
"""Methods whose maps have a level of their own, and what is measured."""

CLASS_FREE = "claims no class: its map is the same for all"
SENSITIVITY = "claims to show what the score is sensitive to, pixel by pixel; no place"
POSITIVE_ONLY = (
    "only positive gradients count, so that what two classes share is never set off by what speaks against one; a "
    "property of the formula, which is equal to pytorch-grad-cam's"
)
EXCUSED = {
    **dict.fromkeys(("eigen-cam", "kpca-cam", "fem"), CLASS_FREE),
    **dict.fromkeys(("gradient", "gradient-x-input", "guided-backprop", "smooth-grad"), SENSITIVITY),
    "integrated-gradients": "claims shares of the score, of either sign; the negative ones are left out here",
    **dict.fromkeys(("layer-cam", "element-wise", "grad-cam++", "smooth-grad-cam++"), POSITIVE_ONLY),
    "recipro-cam": "a map is CAM over the number of places plus the class's bias, which lifts or sinks all of it",
    "occlusion": (
        "the cup is found, the cat, which is seen by many parts, is not: behind windows of twice the sides the cup "
        "reaches 99 and the cat 58; the map equals a loop in torch (`tests/parity/`)"
    ),
    "opti-cam": "claims to keep the score, not to be small: a mask in [0, 1], which is nowhere negative",
    "ss-cam": (
        "open: it claims the class; the noise has twice the width of a mask, and 2 samples may leave too much of it"
    ),
    "full-grad": "claims the whole network's shares: sizes of either sign, each layer's scaled alike",
}
"""Methods that need not reach `ENOUGH`, and why."""

HEAD = """# Where maps lie

Made by `python -m benchmarks.localisation docs/localisation.md`; do not edit.

EfficientNet-Lite0 with its pretrained weights sees `examples/cat_and_coffee.jpg` at 224 x 448, a cat on the left and a
cup of coffee on the right, and the same with its halves swapped. Explained are the cat's class and the cup's that have
the highest score. The numbers are the share of the map's positive mass that lies in the **right** half: 0 and 100 are
perfect, 50 is chance. Raw maps, at the layer's resolution, or the picture's for methods that explain it.
RISE and occlusion explain probabilities, as their papers do, the others logits.

"""

COLUMNS = ("Method", "cat, left", "cup, right", "cat, right", "cup, left", "Least in its half", "Remark")


class Costly(Exception):  # noqa: N818
    """A method asks for more than one pass of the network."""


@functools.cache
def model() -> Model:
    """With pretrained weights."""
    return load_model("efficientnet_lite0")


@functools.cache
def pictures() -> np.ndarray:
    """The picture, and that with its halves swapped: uint8 `(2, 224, 448, 3)`."""
    with Image.open(PICTURE) as image:
        pixels = np.asarray(image.convert("RGB").resize((2 * SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.stack([pixels, np.roll(pixels, SIDE, 1)])


@functools.cache
def features() -> tuple[Array, Array]:
    """The normalised pictures, and the layer that the head reads."""
    inputs = normalize_images(jnp.asarray(pictures()), model().preprocess)
    return inputs, jax.jit(lambda params, x: model().features(params, x)[str(model().layer)])(model().params, inputs)


@functools.cache
def classes() -> np.ndarray:
    """The cat's class and the cup's: of each group that with the highest score in both pictures."""
    tail = last_layer()
    scores = np.asarray(tail.run(tail.activations)).mean(0)
    groups = (find_classes(model().labels, names) for names in (CATS, CUPS))
    return np.asarray([max(group, key=lambda number: scores[number]) for group in groups])


def last_layer() -> Tail:
    """What comes after the layer that the head reads."""
    head = model().head
    assert head is not None
    return head_tail(features()[1], head(model().params))


def in_the_right_half(maps: Array) -> np.ndarray:
    """The share of each map's positive mass, `(2 pictures, 2 classes)`."""
    positive = np.maximum(np.asarray(maps, np.float64), 0)
    return positive[..., positive.shape[-1] // 2 :].sum((-2, -1)) / positive.sum((-2, -1))


def in_its_half(right: np.ndarray) -> float:
    """The least share of a map that lies where its class is."""
    return float(min(1 - right[0, 0], right[0, 1], right[1, 0], 1 - right[1, 1]))


def measured(method: Method) -> np.ndarray:
    """`in_the_right_half` of a method's maps by the whole network."""
    explain, _ = FEWER.get(method.name, (method.explain, ""))
    target: NamedTarget = "probability" if method.name in PROBABILITY else "logit"
    chosen = dataclasses.replace(method, explain=explain)
    maps = make_explainer(model(), method=chosen, target=target, size=None)(pictures(), classes()).maps
    return in_the_right_half(maps - maps.mean((-2, -1), keepdims=True) if method.name in ABOVE_MEAN else maps)


def measured_at_the_head() -> dict[str, np.ndarray]:
    """The same for all methods that need one pass of the network, which they share."""
    wanted = Wanted("logit", jnp.asarray(classes(), jnp.int32), 2)

    def passes(_: Array) -> Array:
        raise Costly

    def maps(explain: Explain, inputs: Array, activations: Array) -> Array:
        def tail(images: Array) -> Tail:
            if images is not inputs:
                raise Costly
            return last_layer()._replace(activations=activations)

        return explain(Look(inputs, tail, passes), wanted).maps

    found = {}
    for name, method in FITTING.items():
        if method.explain is not None and method.layer is None and method.fusion is None:
            try:
                found[name] = in_the_right_half(jax.jit(maps, static_argnums=0)(method.explain, *features()))
            except Costly:
                continue
    return found


def row(name: str, right: np.ndarray) -> str:
    """A line of the table."""
    remarks = [FEWER[name][1]] if name in FEWER else []
    remarks += [ABOVE_MEAN[name]] if name in ABOVE_MEAN else []
    remarks += [EXCUSED[name]] if name in EXCUSED else []
    numbers = [f"{100 * share:.0f}" for share in (*right.ravel(), in_its_half(right))]
    return "| " + " | ".join((f"`{name}`", *numbers, "; ".join(remarks))) + " |"


def rows_of(page: str) -> dict[str, str]:
    """The lines of the table by their method."""
    return {line.split("`")[1]: line for line in re.findall(r"^\| `.*$", page, re.MULTILINE)}


def main(page: Path, names: list[str]) -> None:
    """Measures methods, all where none is named, and writes the page."""
    rows = rows_of(page.read_text("utf-8")) if page.exists() else {}
    at_the_head = measured_at_the_head()
    for name in sorted(names or FITTING, key=lambda name: name not in at_the_head):
        rows[name] = row(name, at_the_head[name] if name in at_the_head else measured(METHODS[name]))
        print(rows[name], flush=True)
        lines = ["| " + " | ".join(each) + " |" for each in (COLUMNS, ["---"] * len(COLUMNS))]
        lines += [rows[each] for each in METHODS if each in rows]
        page.write_text(HEAD + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
