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
    ("header_bytes", _BYTES, "The largest request line with headers; larger gets 431."),
    ("headers", Whole(), "The most headers of a request; more get 431."),
    (
        "connections",
        Whole(),
        (
            "The most open connections of clients, and half of the files it may open. Beyond "
            "it the one idle for longest is closed; if none is, 503."
        ),
    ),
    (
        "held_bytes",
        _BYTES,
        (
            "The most bytes of bodies that all requests hold together; more get 503 with "
            "Retry-After. A body is held until its answer begins. As much again may wait for "
            "clients to take their answers; beyond it, whoever has taken nothing for longest is "
            "closed."
        ),
    ),
    ("header_s", POSITIVE, "Seconds until a connection has sent its first headers; else 408."),
    ("body_s", POSITIVE, "Seconds in which a body must average 1 KiB a second; else 408."),
    ("idle_s", POSITIVE, "Seconds that a connection may be idle between requests."),
    ("reader_s", POSITIVE, "Seconds in which a client may take nothing of a waiting answer."),
)


def parser() -> CommandParser:
    """Builds the parser of ``seesaw router``."""
    command = CommandParser(
        prog="seesaw router",
        allow_abbrev=False,
        keeps_lines=False,
        description="One OpenAI-compatible endpoint in front of workers: gathers prompts into "
        "prefill waves, lets the workers take turns, and sends a request again whose worker is "
        "lost before it has answered.",
        epilog="Example: seesaw router --worker http://127.0.0.1:8001 --worker "
        "http://127.0.0.1:8002",
    )
    command.add_argument(
        "--worker",
        action="append",
        default=[],
        metavar="URL",
        help="A worker's base URL; give it once a worker.",
    )
    command.add_argument(
        "--service",
        type=_SERVICE,
        metavar="NAMESPACE/NAME",
        help="Instead of --worker, inside Kubernetes: the headless Service of the workers, whose "
        "EndpointSlices are watched.",
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
        help="How many requests may wait; more are refused with 429 and Retry-After. "
        "Default: %(default)s.",
    )
    command.add_argument(
        "--max-body-bytes",
        type=_BYTES,
        default=_DEFAULT["max_body_bytes"],
        help="The largest request. Default: %(default)s.",
    )
    command.add_argument(
        "--max-attempts",
        type=Whole(),
        default=_DEFAULT["max_attempts"],
        help="How many workers a request is tried on while they are lost before they answer. "
        "Default: %(default)s.",
    )
    _add_workers(command)
    _add_clients(command)
    command.add_argument(
        "--drain-timeout-s",
        type=NOT_NEGATIVE,
        default=_DEFAULT["drain_timeout_s"],
        help="How long SIGTERM waits for running requests. Default: %(default)s.",
    )
    add_log_flags(command)
    return command


def _add_policy(command: argparse.ArgumentParser) -> None:
    default = WavePolicy()
    command.add_argument(
        "--max-wait-s",
        type=NOT_NEGATIVE,
        default=default.max_wait_s,
        help="The longest, in seconds, that a prompt gathers for a wave. Default: %(default)s.",
    )
    command.add_argument(
        "--light-requests",
        type=Whole(least=0),
        default=default.light_requests,
        help="A worker with fewer running requests gets prompts at once. Default: %(default)s.",
    )
    command.add_argument(
        "--stagger",
        action=argparse.BooleanOptionalAction,
        default=default.stagger,
        help="Let the workers' prefill windows take turns. Default: on.",
    )


def _add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-unserved-s",
        type=POSITIVE,
        default=_DEFAULT["max_unserved_s"],
        help="How long, in seconds, a prompt waits while no worker serves; then it is refused "
        "with 503 and Retry-After. Default: %(default)s.",
    )
    command.add_argument(
        "--max-worker-silence-s",
        type=POSITIVE,
        default=_DEFAULT["max_worker_silence_s"],
        help="How long, in seconds, nothing at all may come from a worker, its events or health "
        "included, before its requests are broken off. Default: %(default)s.",
    )
    command.add_argument(
        "--max-answer-silence-s",
        type=POSITIVE,
        default=_DEFAULT["max_answer_silence_s"],
        help="How long, in seconds, nothing may come of one answer although its worker is there. "
        "It must exceed the longest queue and answer that is not streamed. Default: %(default)s.",
    )
    command.add_argument(
        "--max-ejected-percent",
        type=Number(most=100),
        default=100 * EjectionPolicy().max_share,
        help="The most of the workers that get nothing for a while since they fail where others "
        "do not; 0 turns that off. Default: %(default)s.",
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
