"""Explanations on disk: a figure a picture, a JSON file, a NumPy archive, each moved into place when it is whole."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from camjax.atomic import atomic_path
from camjax.core.model import Model
from camjax.errors import CamjaxError
from camjax.explain.explanation import Explanation
from camjax.images.figures import FIGURE_SUFFIXES, figure, save_figure, shrink
from camjax.images.labels import short_label


def figure_paths(pictures: Sequence[Path], out: Path | None) -> list[Path]:
    """Where each picture's figure goes.

    Args:
        pictures: the files explained.
        out: a file with a figure's suffix, for one picture; a folder; None is the current folder.

    Returns:
        `NAME.cam.png` in the folder, with a number where two pictures have the same name, or the file itself.

    Raises:
        CamjaxError: `out` is a file and there are several pictures, or has a suffix that no figure has.
    """
    if out is not None and out.suffix and not out.is_dir():
        if out.suffix.lower() not in FIGURE_SUFFIXES:
            raise CamjaxError(
                f"{out}: a figure's name ends in {', '.join(sorted(FIGURE_SUFFIXES))}; a folder's in none"
            )
        if len(pictures) > 1:
            raise CamjaxError(f"{out} is one file, but there are {len(pictures)} pictures; give a folder with --out")
        return [out]
    folder = out or Path()
    taken: dict[str, int] = {}
    paths = []
    for picture in pictures:
        count = taken[picture.stem] = taken.get(picture.stem, 0) + 1
        number = f"-{count}" if count > 1 else ""
        paths.append(folder / f"{picture.stem}{number}.cam.png")
    return paths


def write_figure(explanation: Explanation, path: Path, *, colormap: str, opacity: float) -> None:
    """Draws the explanation over its picture and writes it; the suffix chooses the format."""
    picture = shrink(explanation.picture)
    titles = [
        f"{short_label(label)}, {probability:.3f}"
        for label, probability in zip(explanation.labels, explanation.probabilities, strict=True)
    ]
    heats = explanation.heats(picture.shape[:2])
    save_figure(figure(picture, heats, titles, colormap, opacity), path)


def write_json(explanations: Sequence[Explanation], model: Model, path: Path) -> None:
    """Classes, labels, probabilities and logits of every picture, with the model's name, preprocessing and origin."""
    document = {
        "model": {"name": model.name, "architecture": model.architecture, "origin": model.origin},
        "pictures": [_entry(explanation) for explanation in explanations],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_npz(explanations: Sequence[Explanation], path: Path) -> None:
    """The arrays of every picture, stacked: raw `maps (n, k, h, w)` and the rest as `Explanation` names them."""
    arrays: dict[str, Any] = {
        name: np.stack([getattr(explanation, name) for explanation in explanations])
        for name in ("classes", "probabilities", "logits", "maps")
    }
    arrays["paths"] = np.asarray([os.fspath(explanation.path) for explanation in explanations])
    arrays["labels"] = np.asarray([explanation.labels for explanation in explanations])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _entry(explanation: Explanation) -> dict[str, Any]:
    classes = zip(explanation.classes, explanation.labels, explanation.probabilities, explanation.logits, strict=True)
    return {
        "path": os.fspath(explanation.path),
        "geometry": explanation.geometry.kind,
        "classes": [
            {"class": int(number), "label": label, "probability": float(probability), "logit": float(logit)}
            for number, label, probability, logit in classes
        ],
    }
