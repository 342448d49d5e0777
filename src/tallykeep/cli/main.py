"""`tallykeep`: finds the command, runs it, and turns what went wrong into one line and an exit status.

Nothing that a command needs is imported before that command is called.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tallykeep import __version__
from tallykeep.cli.parsers import Parser
from tallykeep.errors import TallykeepError
from tallykeep.systems import System, all_systems

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from tallykeep.config.load import Config
    from tallykeep.metrics import Book, Family

INTERRUPTED = 130
BROKEN_PIPE = 141


class Verb(NamedTuple):
    """A command of the program itself: a module with `add(parser)` and `run(args) -> int`."""

    name: str
    summary: str
    module: str


VERBS = (
    Verb("run", "watch what is configured and serve its metrics", "tallykeep.cli.run"),
    Verb("demo", "see it at work: real servers on this machine, small and busy", "tallykeep.cli.demo"),
    Verb("metrics", "the metric families: list them, explain one", "tallykeep.cli.metrics"),
    Verb("config", "the settings: show them, validate them", "tallykeep.cli.config"),
    Verb("version", "versions of tallykeep and of what it stands on", "tallykeep.cli.version"),
)

EPILOG = """\
examples:
  LOCAL_LTX_DIR=/data/.app.db-litestream/ltx tallykeep run
  tallykeep run litestream --config tallykeep.yaml
  tallykeep litestream check s3://bucket/app --deep
  tallykeep metrics show tallykeep_collector_up

exit status:
  0    it was done; for a check: the answer is good
  1    it failed; for a check: the answer is bad
  2    wrong usage, or settings that cannot be used
  3    no answer: a source or store could not be reached or read
  130  interrupted by Ctrl-C
  141  whatever read the output went away
"""


def leave() -> NoReturn:
    """Run one command, and end the process with its status, at once.

    The interpreter is not taken down piece by piece: threads of Rust may still let go of Python's objects then, and 7
    of 40 commands that had asked an S3 server ended with SIGABRT instead of their status.
    """
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. The exit status of the process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in ours
    try:
        status = _run([*(word for word in ours if word != "--debug"), *arguments[len(ours) :]])
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return BROKEN_PIPE
    except TallykeepError as error:
        return _told(error, debug)
    except Exception as error:
        return _defect(error, debug)


def _run(arguments: Sequence[str]) -> int:
    parser = _parser()
    try:
        args = parser.parse_args(arguments)
    except SystemExit as end:  # argparse has said what there was to say
        return end.code if isinstance(end.code, int) else 2
    if args.run is None:
        parser.print_help()
        return 2
    status: int = args.run(args)
    return status


def _parser() -> Parser:
    parser = Parser(
        prog="tallykeep",
        description="Keeps data restorable and keeps the tally of what is used.",
        epilog=EPILOG,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an unexpected error (any command)")
    parser.add_argument(
        "--version", action="version", version=f"tallykeep {__version__}", help="show the version and exit"
    )
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for verb in VERBS:
        commands.add_parser(verb.name, help=verb.summary, fill=partial(_fill_verb, verb.module))
    for system in all_systems():
        if system.commands:
            commands.add_parser(system.name, help=system.summary, fill=partial(_fill_system, system))
    return parser


def _fill_verb(module: str, parser: Parser) -> None:
    verb = import_module(module)
    parser.set_defaults(run=verb.run)
    verb.add(parser)


def _fill_system(system: System, parser: Parser) -> None:
    parser.description = parser.description or f"{system.name}: {system.summary}."
    parser.set_defaults(
        run=partial(_help, parser), load_config=_load_config, run_systems=_run_systems,
        serve_metrics=_serve_metrics, send_traces=_send_traces,
    )  # fmt: skip
    module, _, name = system.commands.partition(":")
    getattr(import_module(module), name)(parser)


def _load_config(path: Path | None) -> Config:
    """The settings, for commands that name a configured target."""
    return import_module("tallykeep.cli.sections").load_config(path)  # type: ignore[no-any-return]


def _serve_metrics(
    book: Book, families: Iterable[Family], host: str, port: int | None
) -> AbstractAsyncContextManager[str]:
    """/metrics, for commands that run long."""
    return import_module("tallykeep.cli.serving").serve_metrics(book, families, host, port)  # type: ignore[no-any-return]


def _send_traces(config: Config) -> AbstractAsyncContextManager[None]:
    """Spans, for commands that are soon done. Nothing is imported for it where nothing is sent."""
    settings = config.section("telemetry")
    if not settings.traces:
        return nullcontext()
    return import_module("tallykeep.cli.traced").send_traces(settings)  # type: ignore[no-any-return]


def _run_systems(args: argparse.Namespace, systems: Sequence[str]) -> int:
    """What `tallykeep run SYSTEM` does, for a system that has a command for it. `args` has the options of `run`."""
    args.systems = list(systems)
    return import_module("tallykeep.cli.run").run(args)  # type: ignore[no-any-return]


def _help(parser: Parser, args: argparse.Namespace) -> int:
    """A group of commands without a command: its help, and wrong usage."""
    parser.print_help()
    return 2


def _told(error: TallykeepError, debug: bool) -> int:
    if debug:
        _traceback(error)
    problems = str(error).splitlines() or [type(error).__name__]
    if len(problems) > 1:
        print(f"tallykeep: {len(problems)} problems", file=sys.stderr)
    for problem in problems:
        print(f"  - {problem}" if len(problems) > 1 else f"tallykeep: {problem}", file=sys.stderr)
    return error.exit_status


def _defect(error: Exception, debug: bool) -> int:
    if debug:
        _traceback(error)
    print(f"tallykeep: unexpected {type(error).__name__}: {error}", file=sys.stderr)
    told = "the traceback above" if debug else "what the same command prints with --debug"
    print(f"This is a defect: please report it to the tallykeep project with {told}.", file=sys.stderr)
    return 1


def _traceback(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error)


def _forget_output() -> None:
    """Nobody reads any more: the flush at exit must not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
