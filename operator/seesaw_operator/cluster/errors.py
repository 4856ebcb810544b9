"""The operator's branches of the error tree."""

from seesaw_core.errors import InputError, RetryError


class RefusedError(InputError):
    """An object cannot be applied: the apiserver does not take it, or it is somebody else's."""


class UnavailableError(RetryError):
    """The apiserver cannot be reached, is overloaded, or is broken at the moment."""
