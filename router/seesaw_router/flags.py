"""The command line of ``seesaw router``."""

import argparse
import re
from collections.abc import Sequence

from seesaw_core.routing.ejection import EjectionPolicy
from seesaw_core.routing.waves import WavePolicy
from seesaw_flags.logs import add_log_flags, log_settings_of
from seesaw_flags.parser import CommandParser, defaults_of
from seesaw_flags.values import (
    NOT_NEGATIVE,
    PORT,
    POSITIVE,
    SHORT_LABEL_PATTERN,
    Number,
    Text,
    Whole,
)
from seesaw_router.limits import Limits
from seesaw_router.settings import RouterSettings

_MAX_BYTES = 2**50
_BYTES = Whole(most=_MAX_BYTES)
_DEFAULT = defaults_of(RouterSettings)
_SERVICE = Text(
    pattern=re.compile(f"{SHORT_LABEL_PATTERN}/{SHORT_LABEL_PATTERN}"), form="NAMESPACE/NAME"
)
_CLIENT_LIMITS: tuple[tuple[str, Whole | Number, str], ...] = (
    (
        "header_bytes",
        _BYTES,
        "The largest request line with headers, in bytes; a larger one gets 431.",
    ),
    ("headers", Whole(), "The most headers that a request may have; more get 431."),
    (
        "connections",
        Whole(),
        (
            "The most open connections of clients, at most half of the files that the router may "
            "open. Beyond it, the connection that has been idle longest is closed; if none is "
            "idle, a new one gets 503."
        ),
    ),
    (
        "held_bytes",
        _BYTES,
        (
            "The most bytes of bodies that the router holds for all requests together; more get "
            "503 with Retry-After. A body is held until its answer begins. As many bytes again may "
            "wait for clients to read their answers; beyond that, the client that has read "
            "nothing for longest is closed."
        ),
    ),
    (
        "header_s",
        POSITIVE,
        "Seconds within which a connection must send its headers; otherwise it gets 408.",
    ),
    (
        "body_s",
        POSITIVE,
        "Seconds over which a body must average 1 KiB a second; otherwise it gets 408.",
    ),
    ("idle_s", POSITIVE, "Seconds that a connection may be idle between requests."),
    (
        "reader_s",
        POSITIVE,
        "Seconds for which a client may read nothing of an answer that waits for it.",
    ),
)


def parser() -> CommandParser:
    """Builds the parser of ``seesaw router``."""
    command = CommandParser(
        prog="seesaw router",
        allow_abbrev=False,
        keeps_lines=False,
        description="One OpenAI-compatible endpoint in front of workers. It gathers prompts into "
        "prefill waves, lets the workers take turns, and retries a request whose worker is lost "
        "before it has answered.",
        epilog="Example: seesaw router --worker http://127.0.0.1:8001 --worker "
        "http://127.0.0.1:8002",
    )
    command.add_argument(
        "--worker",
        action="append",
        default=[],
        metavar="URL",
        help="The base URL of a worker; give the flag once for each worker.",
    )
    command.add_argument(
        "--service",
        type=_SERVICE,
        metavar="NAMESPACE/NAME",
        help="In Kubernetes, instead of --worker: the headless Service of the workers. The router "
        "watches its EndpointSlices.",
    )
    command.add_argument("--host", default=_DEFAULT["host"], help="Default: %(default)s.")
    command.add_argument(
        "--port", type=PORT, default=_DEFAULT["port"], help="Default: %(default)s."
    )
    _add_policy(command)
    command.add_argument(
        "--max-queued",
        type=Whole(),
        default=_DEFAULT["max_queued"],
        help="The most requests that may wait; more are refused with 429 and Retry-After. "
        "Default: %(default)s.",
    )
    command.add_argument(
        "--max-body-bytes",
        type=_BYTES,
        default=_DEFAULT["max_body_bytes"],
        help="The largest body of a request, in bytes. Default: %(default)s.",
    )
    command.add_argument(
        "--max-attempts",
        type=Whole(),
        default=_DEFAULT["max_attempts"],
        help="The most workers that a request is sent to, if each is lost before it answers. "
        "Default: %(default)s.",
    )
    _add_workers(command)
    _add_clients(command)
    command.add_argument(
        "--drain-timeout-s",
        type=NOT_NEGATIVE,
        default=_DEFAULT["drain_timeout_s"],
        help="Seconds for which the router waits for running requests after SIGTERM. "
        "Default: %(default)s.",
    )
    add_log_flags(command)
    return command


def _add_policy(command: argparse.ArgumentParser) -> None:
    default = WavePolicy()
    command.add_argument(
        "--max-wait-s",
        type=NOT_NEGATIVE,
        default=default.max_wait_s,
        help="The longest time, in seconds, that a prompt waits for a wave. Default: %(default)s.",
    )
    command.add_argument(
        "--light-requests",
        type=Whole(least=0),
        default=default.light_requests,
        help="A worker with fewer running requests than this gets prompts at once. "
        "Default: %(default)s.",
    )
    command.add_argument(
        "--stagger",
        action=argparse.BooleanOptionalAction,
        default=default.stagger,
        help="Let the prefill windows of the workers take turns. Default: on.",
    )


def _add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-unserved-s",
        type=POSITIVE,
        default=_DEFAULT["max_unserved_s"],
        help="Seconds for which a prompt waits while no worker serves; then it is refused with "
        "503 and Retry-After. Default: %(default)s.",
    )
    command.add_argument(
        "--max-worker-silence-s",
        type=POSITIVE,
        default=_DEFAULT["max_worker_silence_s"],
        help="Seconds for which a worker may send nothing, neither events nor health, before its "
        "requests are cancelled. Default: %(default)s.",
    )
    command.add_argument(
        "--max-answer-silence-s",
        type=POSITIVE,
        default=_DEFAULT["max_answer_silence_s"],
        help="Seconds for which one answer may send nothing although its worker is alive. It must "
        "exceed the longest wait plus the longest answer that is not streamed. "
        "Default: %(default)s.",
    )
    command.add_argument(
        "--max-ejected-percent",
        type=Number(most=100),
        default=100 * EjectionPolicy().max_share,
        help="The largest percentage of the workers that are ejected at once, because they fail "
        "where others do not; 0 turns ejection off. Default: %(default)s.",
    )


def _add_clients(command: argparse.ArgumentParser) -> None:
    default = Limits()
    for field, kind, text in _CLIENT_LIMITS:
        command.add_argument(
            "--max-client-" + field.replace("_", "-"),
            type=kind,
            default=getattr(default, field),
            help=f"{text} Default: %(default)s.",
        )


def settings_of(arguments: Sequence[str]) -> RouterSettings:
    """Returns the settings that a command line gives. Raises: InputError."""
    return settings_from(parser().parse_args(arguments))


def settings_from(args: argparse.Namespace) -> RouterSettings:
    """Returns the settings that parsed flags give. Raises: InputError."""
    return RouterSettings(
        policy=WavePolicy(
            max_wait_s=args.max_wait_s,
            light_requests=args.light_requests,
            stagger=args.stagger,
        ),
        workers=tuple(dict.fromkeys(url.rstrip("/") for url in args.worker)),
        service=args.service,
        host=args.host,
        port=args.port,
        max_queued=args.max_queued,
        max_body_bytes=args.max_body_bytes,
        max_attempts=args.max_attempts,
        max_unserved_s=args.max_unserved_s,
        max_worker_silence_s=args.max_worker_silence_s,
        max_answer_silence_s=args.max_answer_silence_s,
        limits=Limits(
            **{field: getattr(args, f"max_client_{field}") for field, _, _ in _CLIENT_LIMITS}
        ),
        ejection=EjectionPolicy(max_share=args.max_ejected_percent / 100),
        drain_timeout_s=args.drain_timeout_s,
        log=log_settings_of(args),
    )
