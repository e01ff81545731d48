"""The command line: `workflow-server serve`, `workflow-server openapi`."""

from workflow_server.app.commands.collecting import collect_seldom


def main() -> None:
    """Run the command line, and end the process: with status 2 for a user's mistake."""
    collect_seldom()
    # Behind that, since an import makes more objects than most runs do.
    from workflow_server.app.commands.program import NAME, make_program

    make_program()(prog_name=NAME)
