"""The operator's branches of the error tree."""

import aiohttp
from kubernetes.aio import client

from seesaw_core.errors import InputError, RetryError

UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)
"""What a client raises that got no answer from the apiserver."""
FAILURES = (client.exceptions.ApiException, *UNREACHABLE)
"""What a client raises, with an answer or without."""


class RefusedError(InputError):
    """An object cannot be applied: the apiserver does not take it, or it is somebody else's."""


class UnavailableError(RetryError):
    """The apiserver cannot be reached, is overloaded, or is broken at the moment."""
