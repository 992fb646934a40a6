"""The original demo, step by step: an MXNet ResNet-50 v2, a picture, its top 8 classes, and where each was seen.

    python examples/original_demo.py PICTURE mxnet:PATH/resnet-50@0 demo.png

Without a model it takes the network that needs no download; without any argument, the example picture too.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from camjax import cam_fn, load_model, normalize_images
from camjax.images.figures import figure, save_figure
from camjax.images.geometry import Geometry, to_input, to_picture
from camjax.images.labels import short_label
from camjax.images.pictures import read_picture

EXAMPLE = Path(__file__).with_name("cat_and_coffee.jpg")
picture_file, source, out = (sys.argv[1:] + [str(EXAMPLE), "efficientnet_lite0", "demo.png"][len(sys.argv) - 1 :])[:3]

# 1. Load the network, its weights and its class names (symbol, params and synset.txt).
model = load_model(source)

# 2. Read the picture, pad the shorter side so that it is square, resize it to 224.
picture = read_picture(picture_file)
geometry = Geometry("pad", picture.shape[:2], (224, 224))
pixels = to_input(geometry, picture)

# 3. Run the network up to the features that global average pooling reads (relu1_output there): 7 x 7 x 2048.
features = jax.jit(model.features)(model.params, normalize_images(pixels[None], model.preprocess))[model.layer]

# 4. Take the head's weights (fc1_weight there), the top 8 classes, and apply their weights to every pixel.
kernel, bias = model.head(model.params)
logits, classes, probabilities, maps = cam_fn(features, kernel, bias, top_k=8, size=(224, 224))

# 5. Lay each map over the whole picture and scale it from its lowest to its highest value.
heats = to_picture(geometry, np.asarray(maps[0]))
low, high = heats.min((1, 2), keepdims=True), heats.max((1, 2), keepdims=True)
heats = (heats - low) / (high - low)

# 6. Colour by hue, blend half and half, two columns with the class above each.
titles = [f"{short_label(model.labels[c])}, {p:.3f}" for c, p in zip(classes[0], probabilities[0], strict=True)]
save_figure(figure(picture, heats, titles, colormap="hsv", opacity=0.5), Path(out))
print("\n".join(titles), f"→ {out}", sep="\n")
