"""What camjax raises when its input is wrong: one line that says what is wrong and what to do."""


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


class LayerError(CamjaxError, LookupError):
    """A network has no layer of that name, or the layer cannot be used as asked."""
