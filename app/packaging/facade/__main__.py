"""The command line as `python -m workflow_server`."""

from workflow_server.app.cli import main

main()
