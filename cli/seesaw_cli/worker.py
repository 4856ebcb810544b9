"""``seesaw worker MODEL``: the server, below a supervisor that cleans up after it."""

import os
import sys

from seesaw_cli.commandline import AS_SERVER, asks_for_help


def run(arguments: list[str]) -> int:
    """Serve a model. Raises: InputError if a flag or the model is wrong."""
    if AS_SERVER in arguments:
        return _serve([a for a in arguments if a != AS_SERVER])
    if asks_for_help(arguments):
        return _serve(arguments)
    from seesaw_worker.processes.supervisor import supervise
    from seesaw_worker.server.flags import check_own_flags
    from seesaw_worker.settings.model_path import check_model_path

    args = check_own_flags(arguments)
    if arguments and not arguments[0].startswith("-"):
        check_model_path(arguments[0])
    command = [sys.executable, "-m", "seesaw_cli.main", "worker", AS_SERVER, *arguments]
    return supervise(command, longest_stop_s=args.stall_exit_s)


def _serve(arguments: list[str]) -> int:
    from seesaw_worker.modes.plugin import SERVER_PID_VARIABLE
    from seesaw_worker.processes.watchdog import clean_up_with_supervisor

    clean_up_with_supervisor()
    set_defaults()
    os.environ[SERVER_PID_VARIABLE] = str(os.getpid())
    if not asks_for_help(arguments):
        from seesaw_worker.processes.forking import find_cpu_build, start_fork_server

        if "--enforce-eager" in arguments and find_cpu_build():
            # vLLM compiles a few helpers even when eager, which needs a C++ compiler and delays
            # the first request by seconds.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        start_fork_server()
        print("seesaw worker [   0.0 s] starting: importing vLLM", file=sys.stderr, flush=True)
    from seesaw_worker.server.commandline import parse
    from seesaw_worker.server.serving import serve

    args = parse(arguments)
    return serve(args)


def set_defaults() -> None:
    """Set a worker's environment variables unless the user has. Called before vLLM is imported."""
    import seesaw_worker.processes.run_folder
    import seesaw_worker.upstream.log_filters  # noqa: F401 - both take effect on import
    from seesaw_worker.processes.forking import BIND_VARIABLE

    for name, value in {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        BIND_VARIABLE: "nobind",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }.items():
        os.environ.setdefault(name, value)
