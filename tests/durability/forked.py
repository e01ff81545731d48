"""Servers one after the other, each in a process that is forked from this one.

Most of the time that a server takes to start it spends on its imports, which are made once here.
The arguments are those of the command. The id of each process is a line of the standard output;
what the servers write there goes to the standard error.
"""

import os
import sys
import threading
import traceback
from typing import NoReturn

import workflow_server.app.commands.serve
import workflow_server.app.server
import workflow_server.stores.postgres
import workflow_server.stores.sqlite  # noqa: F401  # imported for the servers
from workflow_server.app.cli import main


def serve() -> NoReturn:
    """Be the command in this process, to its end."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    status: object = 0
    try:
        main()
    except SystemExit as leaving:
        status = leaving.code
    except BaseException:  # noqa: BLE001  # the process ends here, as Python ends it
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0)


def supervise() -> NoReturn:
    """Fork a server whenever the one before has ended."""
    while True:
        assert threading.active_count() == 1  # a fork has no other threads
        process = os.fork()
        if process == 0:
            serve()
        os.write(sys.stdout.fileno(), b"%d\n" % process)
        os.waitpid(process, 0)


if __name__ == "__main__":
    supervise()
