"""What camjax raises when its input is wrong: one line that says what is wrong and what to do, and is safe to print."""


def printable(text: str, limit: int | None = 400) -> str:
    """Text from an untrusted file or a path, made safe to print: one line, no control characters, not too long.

    Args:
        text: anything, such as a file's name, a label, or a key out of a checkpoint.
        limit: the number of characters to keep; None keeps all.

    Returns:
        The text with every character that cannot be printed replaced by a question mark.
    """
    cut = text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


class CamjaxError(Exception):
    """Base of every error that a user can mend. The command line prints its text and exits with 2."""


class CheckpointError(CamjaxError, ValueError):
    """A weight file is damaged, hostile, or does not fit the network it is loaded into."""


class UnknownModelError(CamjaxError, LookupError):
    """No model goes by that name."""


class HubError(CamjaxError, OSError):
    """A model hub could not give the file that was asked for."""


class PictureError(CamjaxError, ValueError):
    """A picture cannot be read."""


class ImageWarning(UserWarning):
    """An image was read in a way that the user should know about, such as by a range of values chosen for it."""


class LabelError(CamjaxError, LookupError):
    """A class was asked for that is not among the labels, or a list of labels cannot be used."""


class LayerError(CamjaxError, LookupError):
    """A network has no layer of that name, or the layer cannot be used as asked."""
