"""The command line of ``seesaw operator``."""

from collections.abc import Sequence

from seesaw_flags.logs import add_log_flags, log_settings_of
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import PORT, Number, Whole
from seesaw_operator.settings import Images, OperatorSettings, Timing


def parser() -> CommandParser:
    """The parser of ``seesaw operator``."""
    made = CommandParser(
        prog="seesaw operator",
        allow_abbrev=False,
        keeps_lines=False,
        description="Makes a cluster match its SeesawDeployments. Uses the pod's service account, "
        "or else KUBECONFIG.",
    )
    images = made.add_argument_group("what pods run")
    images.add_argument("--worker-image", required=True, help="Workers on accelerators.")
    images.add_argument("--worker-cpu-image", required=True, help="Workers on the CPU.")
    images.add_argument("--router-image", required=True, help="Routers.")
    images.add_argument(
        "--image-pull-policy",
        default="IfNotPresent",
        choices=("Always", "IfNotPresent", "Never"),
        help="Default: %(default)s.",
    )
    images.add_argument(
        "--image-pull-secret",
        action="append",
        default=[],
        metavar="NAME",
        help="A Secret in the resource's namespace; may be repeated.",
    )
    made.add_argument(
        "--namespace",
        action="append",
        default=[],
        help="Look after this namespace; may be repeated. Default: all.",
    )
    made.add_argument("--lease-namespace", default="default", help="Default: %(default)s.")
    made.add_argument("--lease-name", default="seesaw-operator", help="Default: %(default)s.")
    seconds = Whole(least=1, most=10**9)
    timing = made.add_argument_group("timing, in seconds")
    for name, kind, default, meaning in (
        ("--pre-stop-s", seconds, 5, "How long a pod that is to go keeps serving."),
        ("--drain-s", seconds, 600, "How long it then may finish what it has begun."),
        (
            "--start-s",
            seconds,
            600,
            "How long a worker may take until it answers; not until it serves.",
        ),
        (
            "--progress-s",
            seconds,
            1800,
            "How long nothing may move while something is to be done, before it counts as stalled.",
        ),
        ("--measure-every-s", Number(least=0.1), 5.0, "How often workers are asked what they do."),
        ("--resync-s", Number(least=1), 300.0, "How often everything is compared again."),
    ):
        timing.add_argument(name, type=kind, default=default, help=f"{meaning} Default: {default}.")
    made.add_argument(
        "--port", type=PORT, default=8080, help="Of /healthz and /metrics. Default: %(default)s."
    )
    add_log_flags(made)
    return made


def settings_of(arguments: Sequence[str]) -> OperatorSettings:
    """Settings from a command line. Raises: InputError."""
    args = parser().parse_args(arguments)
    return OperatorSettings(
        images=Images(
            worker=args.worker_image,
            worker_cpu=args.worker_cpu_image,
            router=args.router_image,
            pull_policy=args.image_pull_policy,
            pull_secrets=tuple(args.image_pull_secret),
        ),
        timing=Timing(
            pre_stop_s=args.pre_stop_s,
            drain_s=args.drain_s,
            start_s=args.start_s,
            progress_s=args.progress_s,
        ),
        namespaces=tuple(args.namespace),
        lease_namespace=args.lease_namespace,
        lease_name=args.lease_name,
        measure_every_s=args.measure_every_s,
        resync_s=args.resync_s,
        port=args.port,
        log=log_settings_of(args),
    )
