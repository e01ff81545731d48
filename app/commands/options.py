"""The options of the commands, which are made from the settings: a new setting is one there."""

from datetime import timedelta

import click

from workflow_server.app.commands.errors import UsageError
from workflow_server.app.settings import (
    ENV_PREFIX,
    Limits,
    ServiceSettings,
    Settings,
    flag_of,
    read_duration,
)
from workflow_server.app.sharing import Sharing

# The order of `--help`. All others stand in between: who may call, what the service does, limits.
FIRST = (
    *("host", "port", "store", "persistence_backoff", "idle_timeout", "max_resumes", "on_misfit"),
    *("retention", "keep_history", "sse_heartbeat_interval"),
)
LAST = (
    "shutdown_timeout",
    "root_path",
    "loop",
    "log_level",
    "log_format",
    "log_tracebacks",
    "debug",
)
REPEATABLE = ("allowed_hosts", "cors_origins", "trusted_proxies")

SOURCES_METAVAR = "SOURCE... <list[str]>"
SOURCES_HELP = "A Python file with workflows, a folder of such files, or package.module[:name]."


class SourcesCommand(click.Command):
    """A command that takes sources, which `--help` describes before the options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sources and the options into the formatter."""
        with formatter.section("Arguments"):
            formatter.write_dl([(SOURCES_METAVAR, SOURCES_HELP)])
        super().format_options(ctx, formatter)


def make_sources_argument() -> click.Argument:
    """Return the argument of a command that takes sources."""
    return click.Argument(["sources"], nargs=-1, metavar="[SOURCE...]...")


def list_options() -> list[click.Parameter]:
    """Return an option for every setting that has a flag, in the order of `--help`."""
    rest: list[str] = []
    for model in (Settings, ServiceSettings, Sharing, Limits):
        own = model.__annotations__
        rest += [name for name in model.model_fields if name in own and name not in FIRST + LAST]
    return [make_option(name) for name in (*FIRST, *rest, *LAST) if flag_of(name)]


def make_option(field: str) -> click.Option:
    """Return the option of a setting, described as the setting is.

    What is no number is handed on as it was given: the settings say what is right.
    """
    setting = Settings.model_fields[field]
    description = f"{setting.description} [{ENV_PREFIX}{field.upper()}{_show_default(field)}]"
    names = [str(flag_of(field)), field]
    annotation: object = setting.annotation
    if annotation is bool and not setting.default:
        return click.Option(names, is_flag=True, default=None, help=description)
    if annotation in (bool, bool | None):
        names[0] = f"{names[0]}/--no-{names[0].removeprefix('--')}"
        return click.Option(names, default=None, help=description)
    kind = next((number for number in (int, float) if annotation is number), str)
    repeatable = field in REPEATABLE
    return click.Option(
        names,
        type=kind,
        metavar=f"<list[{kind.__name__}]>" if repeatable else f"<{kind.__name__}>",
        multiple=repeatable,
        help=description,
    )


def _show_default(field: str) -> str:
    value = Settings.model_fields[field].default
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return "" if shown in (None, "") else f"; default: {shown}"


def read_duration_of(flag: str, text: str) -> timedelta:
    """Return the duration that a flag was given; `UsageError` where it is none."""
    try:
        return read_duration(text)
    except ValueError as error:
        raise UsageError(f"{flag} is {text!r}: {error}.") from error
