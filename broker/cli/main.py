"""``ftf-broker``: the list of commands, and how an error becomes words on stderr and an exit code.

Exit codes:

    0     done
    1     the answer is no: a violation found, evidence invalid, access denied
    2     wrong usage or configuration
    3     something outside failed, or a bug of ours
    130   stopped with Ctrl-C
    141   the program that read our stdout has ended, as after ``| head``
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import MutableMapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import structlog
from rich.text import Text

from broker.cli.context import EXIT_PIPE, Settings
from broker.cli.output import words
from broker.errors import BrokerError
from broker.show.text import printable

__all__ = ["COMMANDS", "cli", "main", "run"]

COMMANDS: dict[str, str] = {
    "demo": "broker.cli.demo.command:command",
    "init": "broker.cli.found.init:command",
    "authority": "broker.cli.found.authority:group",
    "agency": "broker.cli.found.agency:group",
    "auditor": "broker.cli.found.auditor:group",
    "kas": "broker.cli.found.kas:group",
    "channel": "broker.cli.found.channel:group",
    "statement": "broker.cli.found.statement:group",
    "publish": "broker.cli.publish:command",
    "subscribe": "broker.cli.read.subscribe:command",
    "consult": "broker.cli.read.consult:command",
    "audit": "broker.cli.audit:group",
    "log": "broker.cli.log:group",
}
"""Each command and the object that implements it, in the order of the help; loaded when it is used."""


class _Commands(click.Group):
    """A group that loads a command's file when it is needed: ``--version`` need not load cryptography."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.command(
    "ftf-broker",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(version("ftf-broker"), prog_name="ftf-broker")
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Who you are: a profile file. Default: FTF_PROFILE.",
)
@click.option("-v", "--verbose", count=True, help="Say more on stderr; twice for everything.")
@click.pass_context
def cli(context: click.Context, profile: Path | None, verbose: int) -> None:
    """Signed, access-logged, replayable exchange of records about returning foreign terrorist fighters
    and their families.

    \b
    See it work:
      ftf-broker demo --dir demo
    Take part:
      ftf-broker agency init XAA:police police --like authority/authority.toml --kas local:kas/kas.toml
      ftf-broker publish --channel repatriation --type ReturnEvent returns.jsonl
      ftf-broker subscribe --channel repatriation --purpose INVESTIGATION
      ftf-broker audit replay --profile audit/auditor.toml
    """
    context.obj = Settings(profile=profile, verbose=verbose)
    configure_logging(verbose)


def configure_logging(verbose: int) -> None:
    """Write log lines to stderr: coloured text on a terminal, one JSON object a line elsewhere."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    if sys.stderr.isatty():
        renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer(
            colors="NO_COLOR" not in os.environ
        )
    else:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _escape,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        # A cached logger would go on writing to the stderr of its first use. Programs and tests may replace
        # it.
        cache_logger_on_first_use=False,
    )


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error becomes words on stderr."""
    try:
        result = cli.main(args=arguments, prog_name="ftf-broker", standalone_mode=False)
        return result if isinstance(result, int) else 0
    # The order of the handlers matters: a BrokenPipeError is an OSError, and click's UsageError is a
    # ClickException.
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        context = error.ctx
        # Click's own usage lines are replaced, so that every error of this program has one form.
        hint = f"{context.command_path} --help" if context is not None else None
        _say_error(_lower(error.format_message()), hint)
        return 2
    except click.ClickException as error:
        _say_error(_lower(error.format_message()), None)
        return 2
    except (click.Abort, KeyboardInterrupt):
        words().print(Text("stopped"))
        return 130
    except BrokerError as error:
        _say_error(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        return EXIT_PIPE
    except OSError as error:
        if os.environ.get("FTF_DEBUG") == "1":
            traceback.print_exception(error)
        _say_error(f"the system refuses: {error.strerror or error}", None)
        return 3
    except BaseExceptionGroup as group:
        return _from_group(group)
    except Exception as error:  # noqa: BLE001 - the last place where a bug can be told as one
        return _bug(error)


def _from_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Report the first of several errors, where tasks that ran side by side failed together."""
    leaves = _leaves(group)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        words().print(Text("stopped"))
        return 130
    # One unknown error makes the whole group a bug: with the words of another error it would be lost.
    ours = [leaf for leaf in leaves if isinstance(leaf, BrokerError)]
    if ours and len(ours) == len(leaves):
        _say_error(ours[0].message, ours[0].hint)
        return ours[0].exit_code
    return _bug(group)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _escape(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape every text of a log line: it may be a peer's, and the line goes to a terminal."""
    return {
        printable(name): value if value is None or isinstance(value, int | float) else printable(str(value))
        for name, value in event.items()
    }


def _bug(error: BaseException) -> int:
    if os.environ.get("FTF_DEBUG") == "1":
        traceback.print_exception(error)
    _say_error(
        f"internal error: {type(error).__name__}: {error}; this is a bug",
        "set FTF_DEBUG=1 to see where, and report it",
    )
    return 3


def _lower(message: str) -> str:
    """Turn a sentence of click into our style: lower case, no full stop."""
    message = " ".join(message.split())
    return (message[:1].lower() + message[1:]).rstrip(".")


def _say_error(message: str, hint: str | None) -> None:
    console = words()
    # The message may quote a peer, so characters that move the cursor are escaped. In our hints only line
    # breaks are kept, between commands to copy.
    console.print(Text.assemble(("error:", "bold red"), " ", printable(message)))
    if hint:
        console.print(Text.assemble(("hint:", "bold"), " ", printable(hint, but="\n")))


def main() -> None:
    """The entry point of the command."""
    code = run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = EXIT_PIPE
    except OSError as error:
        if code == 0:
            _say_error(f"the system refuses: {error.strerror or error}", None)
        code = 3
    if code in (EXIT_PIPE, 3):
        # What is still buffered cannot be written, and Python would report that once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
