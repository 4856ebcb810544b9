"""Checks a whole worker, with vLLM, on this machine's GPU or on CPU ranks: one command.

    python tests/gpu/check_whole_worker.py                          # a GPU: T1-T1, then P2-T2
    python tests/gpu/check_whole_worker.py --device cpu --layouts P2-T2
    python tests/gpu/check_whole_worker.py --list                   # the steps and their bounds
    python tests/gpu/check_whole_worker.py --only kill --only refused

Versions and contract tests, plain vLLM as the reference, 100 transitions with weights replayed
and their digests, KV bit for bit, tokens against the reference while every page is checked,
killed processes, and what does not fit. Every step is a process of its own, ended after its
bound; the next goes on whatever came of it. Needs `pip install` of the worker with vLLM and the
test requirements. Where there are fewer GPUs than a layout has ranks, two share one, which takes
NCCL 2.30 or newer. Prints a table; --json gets all figures; exits with 1 if a step failed.
pytest does not collect it, by its name.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
PARTS = [str(ROOT / part) for part in ("core", "worker", "router", "operator", "cli", "tests")]
sys.path[:0] = PARTS

from gpu.whole_worker import machine_facts  # noqa: E402 - found by the lines above
from gpu.whole_worker.plan import Options, Step, steps_of  # noqa: E402

LOG_LINES = 25


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--layouts", default="T1-T1,P2-T2", help="pairs, prefill first")
    parser.add_argument("--dtypes", default="", help="default: float32, and bfloat16 on a GPU")
    parser.add_argument("--runner", choices=("v1", "v2"), default="v1", help="vLLM's model runner")
    parser.add_argument(
        "--samples", type=int, default=60, help="prompts held against the reference"
    )
    parser.add_argument("--only", action="append", default=[], help="steps that begin so")
    parser.add_argument("--list", action="store_true", help="name the steps and do nothing")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument(
        "--step", nargs=3, metavar=("NAME", "OPTIONS", "FOLDER"), help=argparse.SUPPRESS
    )
    return parser.parse_args()


def main() -> int:
    args = parsed()
    if args.step:
        return run_here(*args.step)
    gpus = len(machine_facts.devices()) if args.device == "cuda" else 0
    if args.device == "cuda" and not gpus and not args.list:
        print("no GPU is visible; rehearse with --device cpu", file=sys.stderr)
        return 2
    default_dtypes = "float32,bfloat16" if gpus else "float32"
    options = Options(
        device=args.device,
        gpus=gpus,
        layouts=tuple(args.layouts.split(",")),
        dtypes=tuple((args.dtypes or default_dtypes).split(",")),
        runner=args.runner,
        num_samples=args.samples,
        large=bool(gpus),
    )
    steps = [
        step
        for step in steps_of(options)
        if not args.only or any(step.name.startswith(only) for only in args.only)
    ]
    if args.list:
        for step in steps:
            print(f"{step.name}  (at most {step.limit_s:.0f} s)")
        return 0
    with tempfile.TemporaryDirectory(prefix="check-worker-") as folder:
        results = [run_apart(step, options, Path(folder)) for step in steps]
    print_table(results)
    if args.json:
        args.json.write_text(json.dumps({"runner": options.runner, "steps": results}, indent=1))
    return 1 if any(not r["passed"] for r in results) else 0


def run_here(name: str, options_file: str, folder: str) -> int:
    """One step, in this process: its figures go to a file."""
    from gpu.whole_worker.engines import Context
    from gpu.whole_worker.steps import STEPS

    step = Step(name=name, limit_s=0)
    context = Context(options=Options.read(Path(options_file)), folder=Path(folder))
    try:
        result: dict[str, Any] = {"figures": STEPS[step.kind](context, *step.arguments)}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the step's result
        traceback.print_exc()
        result = {"error": str(error)[-2000:] or repr(error)}
    (context.folder / "result.json").write_text(json.dumps(result))
    return 0


def run_apart(step: Step, options: Options, folder: Path) -> dict[str, Any]:
    """One step in a process of its own, ended with all that it started after its bound."""
    own = folder / step.name.replace(":", "-")
    own.mkdir()
    options.write(own / "options.json")
    print(f"… {step.name}", flush=True)
    began = time.monotonic()
    result: dict[str, Any]
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "--step", step.name, str(own / "options.json"), str(own)],
            stdout=log,
            stderr=log,
            env=environment(options),
            start_new_session=True,  # by which its processes are known, whoever starts them
        )
        try:
            process.wait(timeout=step.limit_s)
            result = json.loads((own / "result.json").read_text())
        except subprocess.TimeoutExpired:
            result = {"error": f"not done after {step.limit_s:.0f} s"}
        except (OSError, ValueError):
            result = {"error": f"ended with {process.returncode} and no result"}
        finally:
            end_session(process)
    result |= {
        "step": step.name,
        "passed": "error" not in result,
        "seconds": round(time.monotonic() - began, 1),
    }
    if not result["passed"]:
        tail = (own / "log").read_text(errors="replace").splitlines()[-LOG_LINES:]
        print(
            "\n".join(["", f"{step.name} FAILED: {result['error'][:400]}", *tail, ""]), flush=True
        )
    return result


def environment(options: Options) -> dict[str, str]:
    """Ours and vLLM's parts on the path; the model runner that the whole run is about."""
    path = os.pathsep.join([*PARTS, os.environ.get("PYTHONPATH", "")])
    chosen = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    if options.gpus:
        chosen["VLLM_USE_V2_MODEL_RUNNER"] = str(int(options.runner == "v2"))
    return os.environ | chosen


def end_session(process: "subprocess.Popen[bytes]") -> None:
    """Kill whatever a step has left behind, also of a step that has ended."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for left in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(left.pid) == process.pid:
                left.kill()


def print_table(results: list[dict[str, Any]]) -> None:
    print("\n| step | | seconds | figures |\n| --- | --- | --- | --- |")
    for result in results:
        told = json.dumps(result.get("figures")) if result["passed"] else result["error"]
        verdict = "passed" if result["passed"] else "FAILED"
        print(f"| {result['step']} | {verdict} | {result['seconds']} | {told.strip()[:600]} |")
    failed = [result["step"] for result in results if not result["passed"]]
    print("\nFAILED: " + ", ".join(failed) if failed else "\nall steps passed")


if __name__ == "__main__":
    sys.exit(main())
