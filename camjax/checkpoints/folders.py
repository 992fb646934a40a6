"""Weight files on disk: which one a folder holds, and the configuration files that lie beside it."""

import warnings
from pathlib import Path
from typing import Any

from camjax.checkpoints.damage import some_names
from camjax.checkpoints.json_files import read_json_object
from camjax.errors import CheckpointError

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

PREFERRED = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
"""Weight files as transformers and timm name them, the first that is there first."""

WEIGHT_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin", ".ckpt"})


def find_weights(folder: Path) -> Path:
    """Returns the weight file of a folder.

    Args:
        folder: Folder as transformers and timm save one.

    Raises:
        CheckpointError: There is none, or there are several and none has a usual name.
    """
    for name in PREFERRED:
        if (folder / name).is_file():
            return folder / name
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES and path.is_file())
    if len(files) == 1:
        return files[0]
    if not files:
        raise CheckpointError(f"{folder}: the folder holds no weight file, such as {PREFERRED[0]}")
    names = some_names([path.name for path in files])
    raise CheckpointError(f"{folder}: the folder holds several weight files ({names}); name one of them")


def read_beside(weights: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Reads the configuration files beside a weight file.

    Args:
        weights: Path of the weight file.

    Returns:
        The objects of `config.json` and `preprocessor_config.json`, None for a file that is not there. A `config.json`
        that neither timm nor transformers wrote counts as not there, with a warning.

    Raises:
        CheckpointError: A file cannot be read or holds no JSON object.
    """
    config, preprocessor = (_object(weights.with_name(name)) for name in (CONFIG, PREPROCESSOR))
    if config is not None and not config.keys() & {"architecture", "model_type"}:
        warnings.warn(
            f"{weights.with_name(CONFIG)} is neither timm's nor transformers', so it was not read", stacklevel=4
        )
        config = None
    return config, preprocessor


def _object(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return read_json_object(path)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
