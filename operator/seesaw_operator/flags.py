"""The command line of ``seesaw operator``."""

from collections.abc import Sequence

from seesaw_flags.files import InputFile
from seesaw_flags.logs import add_log_flags, log_settings_of
from seesaw_flags.parser import CommandParser, defaults_of
from seesaw_flags.values import IMAGE, KUBERNETES_NAME, NAMESPACE, PORT, Number, Whole
from seesaw_operator.objects.profiles import MOST_BYTES
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
    default = defaults_of(OperatorSettings) | defaults_of(Timing)
    images = made.add_argument_group("what pods run")
    for name, meaning in (
        ("--worker-image", "Workers on accelerators."),
        ("--worker-cpu-image", "Workers on the CPU."),
        ("--router-image", "Routers."),
    ):
        images.add_argument(name, type=IMAGE, required=True, help=meaning)
    images.add_argument(
        "--image-pull-policy",
        default=defaults_of(Images)["pull_policy"],
        choices=("Always", "IfNotPresent", "Never"),
        help="Default: %(default)s.",
    )
    images.add_argument(
        "--image-pull-secret",
        type=KUBERNETES_NAME,
        action="append",
        default=[],
        metavar="NAME",
        help="A Secret in the resource's namespace; may be repeated.",
    )
    made.add_argument(
        "--profiles",
        type=InputFile(most_bytes=MOST_BYTES),
        metavar="FILE",
        help="JSON with pod templates that resources may name in spec.profile, as the chart makes "
        "it of its value 'profiles'. Read once, at the start. Default: none.",
    )
    made.add_argument(
        "--namespace",
        type=NAMESPACE,
        action="append",
        default=[],
        help="Look after this namespace; may be repeated. Default: all.",
    )
    for name, form, usual in (
        ("--lease-namespace", NAMESPACE, "default"),
        ("--lease-name", KUBERNETES_NAME, default["lease_name"]),
    ):
        made.add_argument(name, type=form, default=usual, help="Default: %(default)s.")
    seconds = Whole(least=1, most=10**9)
    timing = made.add_argument_group("timing, in seconds")
    for name, kind, meaning in (
        ("--pre-stop-s", seconds, "How long a pod that is to go keeps serving."),
        ("--drain-s", seconds, "How long it then may finish what it has begun."),
        (
            "--start-s",
            seconds,
            "How long a worker may take until it answers; not until it serves.",
        ),
        (
            "--progress-s",
            seconds,
            "How long nothing may move while something is to be done, before it counts as stalled.",
        ),
        ("--measure-every-s", Number(least=0.1), "How often workers are asked what they do."),
        ("--resync-s", Number(least=1), "How often everything is compared again."),
    ):
        usual = default[name.removeprefix("--").replace("-", "_")]
        timing.add_argument(name, type=kind, default=usual, help=f"{meaning} Default: {usual}.")
    made.add_argument(
        "--port",
        type=PORT,
        default=default["port"],
        help="Of /healthz and /metrics. Default: %(default)s.",
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
        profiles=args.profiles,
    )
