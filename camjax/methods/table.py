"""The methods as a table: `python -m camjax.methods.table > docs/methods.md`."""

from collections.abc import Iterable

from camjax.methods.method import Method
from camjax.methods.registry import METHODS

HEAD = """# Methods

Made from the registry by `python -m camjax.methods.table`; do not edit. `make_explainer(model, method="grad-cam++")`
takes a name from the first column, or a `Method` with options of your own.

Passes are those of a whole batch and all its k classes: a backward pass takes the classes as one batch and ends at the
layer. At the layer that a pooled linear head reads (verified, never assumed), it is no pass at all: the head's columns
are the gradients. Raw maps are signed; `sign="positive"` is the ReLU that papers end with.
"""

FOOT = """## Concepts

`make_factoriser(model, layer="layer3", concepts=5)` asks for no class. It finds what a layer's activations are made of
(deep feature factorisation, Collins et al. 2018, arXiv:1806.10206), and which classes the network sees in each part:

```python
from camjax import load_model, make_factoriser
import numpy as np
from PIL import Image

model = load_model("efficientnet_lite0")
images = np.asarray(Image.open("examples/cat_and_coffee.jpg").resize((224, 224)))[None]
found = make_factoriser(model, concepts=4, top_k=2)(images)
print(found.maps.shape, found.classes.shape)  # (1, 4, 224, 224) (1, 4, 2)
print([model.labels[number] for number in found.classes[0, 0]], found.probabilities[0, 0], found.error[0])
```

`camjax concepts cat.jpg --concepts 4` draws the picture in the concepts' colours, with their classes beside it. It
costs a forward pass and, for each concept, one from the layer.
"""


def table(methods: Iterable[Method]) -> str:
    """A Markdown table, one row a method."""
    columns = ("Method", "Map", "Passes", "Needs", "Paper")
    rows = [(f"`{each.name}`", each.what, each.passes, each.needs, each.paper) for each in methods]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, ("---",) * len(columns), *rows))


def page() -> str:
    """What `docs/methods.md` holds."""
    return f"{HEAD}\n{table(METHODS.values())}\n\n{FOOT}"


if __name__ == "__main__":
    print(page(), end="")
