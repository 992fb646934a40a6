"""From a weight file, and what is said about it, to a model: whose network, inputs and labels it has."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from camjax.checkpoints.checksums import sha256_of
from camjax.checkpoints.folders import CONFIG, PREPROCESSOR
from camjax.checkpoints.formats import read_stored
from camjax.checkpoints.hub import Fetched
from camjax.checkpoints.hub_config import HubConfig
from camjax.checkpoints.identify import Match, identify
from camjax.checkpoints.imagenet import is_imagenet
from camjax.checkpoints.store import default_labels, described
from camjax.core.model import Model, Params
from camjax.errors import CheckpointError, LabelError
from camjax.images.labels import imagenet_labels
from camjax.images.preprocess import Preprocess
from camjax.models.family import Architecture
from camjax.models.registry import ARCHITECTURES

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Told:
    """Facts about weights from the caller of `load_model`, which count more than those of files.

    Attributes:
        architecture: Network that the weights are of; None where the caller does not say.
        input_size: (height, width) of the inputs in pixels; None where the caller does not say.
        preprocess: Preprocessing of the inputs; None where the caller does not say.
    """

    architecture: Architecture | None = None
    input_size: Size | None = None
    preprocess: Preprocess | None = None

    def apply(self, preprocess: Preprocess) -> Preprocess:
        """Returns the preprocessing with the told facts in place of its own."""
        preprocess = self.preprocess or preprocess
        return preprocess if self.input_size is None else dataclasses.replace(preprocess, input_size=self.input_size)

    @property
    def size(self) -> Size | None:
        """The (height, width) of the inputs in pixels; None where the caller does not say."""
        return self.input_size or (self.preprocess.input_size if self.preprocess else None)


def build(
    fetched: Fetched, config: HubConfig, told: Told, name: str, origin: dict[str, str], layout: str | None = None
) -> Model:
    """Makes the model of a weight file.

    Args:
        fetched: Weight file.
        config: Contents of the configuration files beside it.
        told: Facts from the caller.
        name: Name of the model.
        origin: Facts about where the weights came from, which `Model.origin` begins with.
        layout: Naming of the weights' keys; None finds it.

    Raises:
        CheckpointError: The file is damaged, fits no network or several, or contradicts the configuration files.
    """
    path, choice = fetched.path, _choice(config, told)
    with ThreadPoolExecutor(1) as beside:
        sha256 = beside.submit(lambda: fetched.sha256 or sha256_of(path))
        try:
            stored = read_stored(path)
            match, params = identify(stored.tensors, choice, layout)
            preprocess = _preprocess(match, config, told)
            labels = config.labels_for(match.architecture.config.num_classes)
        except CheckpointError as error:
            raise CheckpointError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    _warn_of_guesses(path, match, choice, config, told)
    origin = origin | ({"state_dict": stored.name} if stored.name else {})
    origin = origin | {"layout": match.layout, "sha256": sha256.result()}
    if match.architecture.config.num_classes == len(imagenet_labels()) and not labels:
        labels = imagenet_labels() if is_imagenet(origin["sha256"], origin.get("repository")) else ()
    model = assemble(match.architecture, params, name, preprocess, labels, origin)
    return dataclasses.replace(model, activation=config.activation)


def assemble(
    architecture: Architecture,
    params: Params,
    name: str,
    preprocess: Preprocess,
    labels: tuple[str, ...],
    origin: dict[str, str],
) -> Model:
    """Makes the model of converted parameters.

    Args:
        architecture: Network, with the config of these parameters.
        params: Parameters as the network has them.
        name: Name of the model.
        preprocess: Preprocessing of its inputs.
        labels: Names of its classes; empty for classes without names.
        origin: Facts about where the parameters came from.

    Raises:
        LabelError: There are not as many labels as classes.
    """
    outline = architecture.family.outline(architecture.config)
    model = dataclasses.replace(
        outline, params=params, preprocess=preprocess, name=name, architecture=described(architecture), origin=origin
    )
    labels = labels or default_labels(architecture.config.num_classes)
    return dataclasses.replace(model, labels=checked_labels(labels, model))


def checked_labels(labels: Sequence[str], model: Model) -> tuple[str, ...]:
    """Returns the labels of one of camjax's own models.

    Raises:
        LabelError: There are not as many labels as classes.
    """
    count = model.architecture["config"]["num_classes"]
    if len(labels) != count:
        raise LabelError(f"there are {len(labels)} labels, but {model.name} has {count} classes")
    return tuple(labels)


def _choice(config: HubConfig, told: Told) -> list[Architecture]:
    """Returns the networks that the weights may be of, built for the size of inputs that is known."""
    choice = [*ARCHITECTURES.values()] if config.architecture is None else [config.architecture]
    if config.input_size is not None:
        choice = [_at_size(architecture, config.input_size) for architecture in choice]
    if told.size is not None:
        # Another size may be told to see at than the weights are of: only a grid that can be no square is believed.
        choice = [_at_size(each, told.size) if _is_oblong(_at_size(each, told.size)) else each for each in choice]
    return choice


def _at_size(architecture: Architecture, size: Size) -> Architecture:
    return dataclasses.replace(architecture, config=architecture.family.at_size(architecture.config, size))


def _is_oblong(architecture: Architecture) -> bool:
    """Tells whether no square has as many positions as the network is built for."""
    built = architecture.family.built_for(architecture.config)
    return built is not None and math.isqrt(math.prod(built)) ** 2 != math.prod(built)


def _preprocess(match: Match, config: HubConfig, told: Told) -> Preprocess:
    """Returns the preprocessing; where no file says, of the size that the weights are of.

    Raises:
        CheckpointError: The configuration files contradict the weights or each other.
    """
    architecture, size = match.architecture, config.input_size
    built = architecture.family.built_for(architecture.config)
    if told.size is None and size is not None:
        if _at_size(architecture, size) != architecture:
            raise CheckpointError(
                f"{CONFIG} has the image_size {_sides(size)}, but the weights have the positions of inputs of "
                f"{_sides(built or size)}; say which with input_size=(height, width) (--size)"
            )
        if config.fixed_size and config.preprocess and config.preprocess.input_size != size:
            raise CheckpointError(
                f"{PREPROCESSOR} makes inputs of {_sides(config.preprocess.input_size)}, but {CONFIG} has the "
                f"image_size {_sides(size)}; say which with input_size=(height, width) (--size)"
            )
    usual = architecture.preprocess
    return told.apply(config.preprocess or dataclasses.replace(usual, input_size=built or size or usual.input_size))


def _warn_of_guesses(path: Path, match: Match, choice: Sequence[Architecture], config: HubConfig, told: Told) -> None:
    """Warns of what neither the weights nor a file nor the caller says, where it may as well be otherwise."""
    architecture = match.architecture
    built = architecture.family.built_for(architecture.config)
    known = {each.family.built_for(each.config) for each in choice}
    if built is not None and built not in known and built[0] != built[1]:
        warnings.warn(
            f"{path}: its positions are taken for those of inputs of {_sides(built)} (height x width), which their "
            "number does not tell for sure; say which with input_size=(height, width) (--size)",
            stacklevel=5,
        )
    if told.preprocess or config.preprocess:
        return
    alike = [each.name for each in match.alike if _normalisation(each) != _normalisation(architecture)]
    if alike:
        warnings.warn(
            f"{path}: its keys and shapes are those of {', '.join([architecture.name, *alike])}, whose inputs are "
            f"normalised differently; it is taken for {architecture.name}; say which with architecture=NAME "
            "(--architecture NAME)",
            stacklevel=5,
        )
    if config.described:
        warnings.warn(
            f"{path}: has no {PREPROCESSOR} beside its {CONFIG}, so its inputs are normalised with the mean "
            f"{architecture.preprocess.mean} and the std {architecture.preprocess.std}; say with "
            "preprocess=Preprocess(...) how they are to be",
            stacklevel=5,
        )


def _normalisation(architecture: Architecture) -> tuple[tuple[float, ...], ...]:
    return architecture.preprocess.mean, architecture.preprocess.std


def _sides(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
