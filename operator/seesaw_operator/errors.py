"""The operator's branch of the error tree."""

from seesaw_core.errors import InputError


class RefusedError(InputError):
    """An object cannot be applied: the apiserver does not take it, or it is somebody else's."""
