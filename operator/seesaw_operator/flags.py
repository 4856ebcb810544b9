"""The command line of ``seesaw operator``."""

from collections.abc import Sequence

from seesaw_flags.files import InputFile
from seesaw_flags.logs import add_log_flags, log_settings_of
from seesaw_flags.parser import CommandParser, defaults_of
from seesaw_flags.values import IMAGE, KUBERNETES_NAME, NAMESPACE, PORT, Number, Whole
from seesaw_operator.objects.profiles import MOST_BYTES
from seesaw_operator.settings import Images, OperatorSettings, Timing


def parser() -> CommandParser:
    """Return the parser of ``seesaw operator``."""
    command = CommandParser(
        prog="seesaw operator",
        allow_abbrev=False,
        keeps_lines=False,
        description="Makes a cluster match its SeesawDeployments. Authenticates with the pod's "
        "service account, or else with KUBECONFIG.",
    )
    default = defaults_of(OperatorSettings) | defaults_of(Timing)
    images = command.add_argument_group("images of pods")
    for name, meaning in (
        ("--worker-image", "Image of workers on accelerators."),
        ("--worker-cpu-image", "Image of workers on the CPU."),
        ("--router-image", "Image of routers."),
    ):
        images.add_argument(name, type=IMAGE, required=True, help=meaning)
    images.add_argument(
        "--image-pull-policy",
        default=defaults_of(Images)["pull_policy"],
        choices=("Always", "IfNotPresent", "Never"),
        help="The imagePullPolicy of all pods. Default: %(default)s.",
    )
    images.add_argument(
        "--image-pull-secret",
        type=KUBERNETES_NAME,
        action="append",
        default=[],
        metavar="NAME",
        help="A pull Secret in the resource's namespace. May be repeated.",
    )
    command.add_argument(
        "--profiles",
        type=InputFile(most_bytes=MOST_BYTES),
        metavar="FILE",
        help="A JSON file of pod templates that resources may name in spec.profile; the chart "
        "writes it from its value 'profiles'. Read once, at the start. Default: none.",
    )
    command.add_argument(
        "--namespace",
        type=NAMESPACE,
        action="append",
        default=[],
        help="A namespace to manage resources in. May be repeated. Default: all.",
    )
    for name, form, usual, part in (
        ("--lease-namespace", NAMESPACE, "default", "namespace"),
        ("--lease-name", KUBERNETES_NAME, default["lease_name"], "name"),
    ):
        meaning = f"The {part} of the Lease that the leading operator holds. Default: %(default)s."
        command.add_argument(name, type=form, default=usual, help=meaning)
    seconds = Whole(least=1, most=10**9)
    timing = command.add_argument_group("timing, in seconds")
    for name, kind, meaning in (
        ("--pre-stop-s", seconds, "How long a terminating pod keeps accepting requests."),
        ("--drain-s", seconds, "How long it may then take to finish its running requests."),
        (
            "--start-s",
            seconds,
            "How long a worker may take until its server answers; loading is not included.",
        ),
        (
            "--progress-s",
            seconds,
            "How long a rollout may make no progress before the resource counts as stalled.",
        ),
        (
            "--measure-every-s",
            Number(least=0.1),
            "How often workers are polled for their state and metrics.",
        ),
        (
            "--resync-s",
            Number(least=1),
            "How often all resources are reconciled, even if nothing has changed.",
        ),
    ):
        usual = default[name.removeprefix("--").replace("-", "_")]
        timing.add_argument(name, type=kind, default=usual, help=f"{meaning} Default: {usual}.")
    command.add_argument(
        "--port",
        type=PORT,
        default=default["port"],
        help="The port of /healthz and /metrics. Default: %(default)s.",
    )
    add_log_flags(command)
    return command


def settings_of(arguments: Sequence[str]) -> OperatorSettings:
    """Return the settings from a command line. Raises: InputError."""
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
