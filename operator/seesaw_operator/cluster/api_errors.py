"""Errors of the Kubernetes client, translated into the operator's own."""

import contextlib
import json
from collections.abc import Iterator

import aiohttp
from kubernetes.aio import client

from seesaw_operator.cluster.errors import RefusedError, UnavailableError
from seesaw_operator.cluster.store import Object
from seesaw_operator.text import sanitized

UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)
"""The exceptions of a client that got no answer from the apiserver."""
FAILURES = (client.exceptions.ApiException, *UNREACHABLE)
"""All exceptions of a client, with an answer or without."""


_TOO_MANY, _SERVER_ERROR = 429, 500
# The apiserver reports this as its own error, but the object would be refused for ever.
_UNKNOWN_FIELD = "failed to create typed patch object"
_TOO_LARGE = ("request is too large", "message larger than max", "entity too large")
TOO_LARGE_ADVICE = (
    "the object is larger than Kubernetes can store: shorten env, podTemplate or annotations, or "
    "have fewer engines a pod"
)


@contextlib.contextmanager
def translated(manifest: Object) -> Iterator[None]:
    """Raise RefusedError or UnavailableError in place of a client's own errors."""
    try:
        yield
    except client.exceptions.ApiException as error:
        message = _message(error)
        said = f"{title(manifest)}: {sanitized(message)}"
        if any(mark in message.lower() for mark in _TOO_LARGE):
            raise RefusedError(f"{said}: {TOO_LARGE_ADVICE}") from error
        if _may_pass(error) and _UNKNOWN_FIELD not in message:
            raise UnavailableError(said) from error
        raise RefusedError(said) from error
    except UNREACHABLE as error:
        raise UnavailableError(f"{title(manifest)}: {error!r}") from error


def _may_pass(error: client.exceptions.ApiException) -> bool:
    status: int | None = error.status
    return not status or status == _TOO_MANY or status >= _SERVER_ERROR


def title(manifest: Object) -> str:
    """Return kind and name of an object."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def error_text(error: BaseException) -> str:
    """Return an exception of a client as one line, without the headers that the library prints."""
    is_answer = isinstance(error, client.exceptions.ApiException)
    return sanitized(_message(error) if is_answer else repr(error))


def _message(error: client.exceptions.ApiException) -> str:
    """Return the message of the apiserver."""
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return str(error.reason)
