"""The command line: `workflow-server serve`, `workflow-server openapi`."""

import gc

# What is imported lives as long as the process, and runs make many objects that live as long as a
# run does: fewer looks at them find as much.
GC_THRESHOLDS = (20_000, 20, 50)


def main() -> None:
    """Run the command line, and end the process: with status 2 for a user's mistake."""
    gc.set_threshold(*GC_THRESHOLDS)
    # Behind that, since an import makes more objects than most runs do.
    from workflow_server.app.commands.program import NAME, make_program

    make_program()(prog_name=NAME)
