"""The error tree of every Seesaw part, split by what the caller does next.

SeesawError
├── InputError            the user fixes an input; nothing was started
│   ├── LayoutError           a layout that this model or these devices do not allow
│   ├── ModelError            a path without a model, or a model that cannot be re-sharded
│   ├── CapacityError         memory, shared memory or a buffer that is too small
│   └── UnsupportedError      a flag or feature that does not work with re-sharding
├── RetryError            the same call may succeed later
│   ├── BufferFullError       the KV buffer has no room at the moment
│   └── MessageError          a message of another part that this version cannot read
└── BrokenError           this process must stop
    ├── EngineDiedError       a process of the worker is gone
    ├── OwnershipError        an engine touched a weights arena that it does not own
    └── IntegrityError        bytes or counters are wrong
"""


class SeesawError(Exception):
    """Base of all errors that Seesaw raises on purpose."""


class InputError(SeesawError, ValueError):
    """The user must change an input. The message names the value and the fix."""


class LayoutError(InputError):
    """A layout that the model's shape or the device count does not allow."""


class ModelError(InputError):
    """A path without a model, or a model whose weights cannot be re-sharded."""


class CapacityError(InputError):
    """Too little memory, shared memory or buffer. The message names bytes and the flag."""


class UnsupportedError(InputError):
    """A flag or feature that does not work with re-sharding. The message names a way out."""


class RetryError(SeesawError):
    """The same call may succeed later."""


class BufferFullError(RetryError):
    """The KV buffer cannot take the prompt at the moment."""


class MessageError(RetryError):
    """A message that cannot be read. ``field`` names the place, empty for the whole message."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field or 'the message'} {problem}")
        self.field = field


class BrokenError(SeesawError, RuntimeError):
    """This process is broken and must stop."""


class EngineDiedError(BrokenError):
    """A process of the worker has died."""


class OwnershipError(BrokenError):
    """An engine used a weights arena that it does not own."""


class IntegrityError(BrokenError):
    """Bytes or counters are wrong: a bug of ours, or corrupted memory."""
