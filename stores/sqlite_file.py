"""The file of a SQLite database: who has it, and whether it is where it was."""

import os
import sqlite3
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from workflow_server.stores.base import StoreError
from workflow_server.stores.migrations import pending_migrations

if sys.platform != "win32":  # where a file that is open can be neither moved nor removed
    import fcntl

APPLICATION_ID = 0x57465356  # "WFSV", in the file's header: this file is ours
PAGE_SIZE = 16_384  # bytes of a page of a new file; a pack of events takes many of the usual 4,096
CACHE_KIB = 16_384  # of pages that the writer may keep, so that a batch seldom outgrows it

QUICK_CHECK_BYTES = (
    256 << 20
)  # a larger file is not read whole at the start: it would take too long
STATEMENTS = 512  # that stay prepared: one for each number of rows and table that comes up
PRIVATE = 0o600  # a new file is for its owner alone, and so are those that SQLite puts beside it

Identity = tuple[int, int] | None


class SqliteFile:
    """A database's file, which one process has, by whatever path.

    It is locked twice: by a lock beside it (`FILE.lock`), which earlier releases know, and by one
    on the file itself, which no symbolic link and no missing `FILE.lock` deceives. SQLite keeps its
    journal beside one name, so a file with several names (hard links) is refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None
        self._descriptor: int | None = None
        self._name = self._journal = ""
        self._database: Identity = None
        self._written: Identity = None
        self._is_known = False

    @property
    def descriptor(self) -> int | None:
        """The descriptor that holds the lock."""
        return self._descriptor

    def acquire(self) -> Path:
        """Lock the file, which is made where it is not there; return its real path.

        Raises `StoreError` where it cannot be had. A file that was had before is not made again.
        """
        self._name = str(self.path.absolute())
        real = self.path.resolve()
        self._journal = f"{real}-wal"
        lock = FileLock(f"{real}.lock", thread_local=False, mode=PRIVATE)
        try:
            real.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise self._in_use() from None
        except OSError as error:
            raise StoreError(f"{self.path} cannot be opened: {error.strerror}.") from error
        self._lock = lock
        try:
            self._open(real)
        except BaseException:
            self.release()
            raise
        return real

    def _open(self, real: Path) -> None:
        if real.exists() and real.stat().st_nlink > 1:
            raise StoreError(
                f"{self.path} has more than one name (hard links), and SQLite keeps a journal"
                " beside one of them alone; remove the others, or copy the file."
            )
        try:
            # Before its locks SQLite must not see this descriptor closed: theirs would be gone.
            create = 0 if self._is_known else os.O_CREAT
            self._descriptor = os.open(real, os.O_RDWR | create, PRIVATE)
        except FileNotFoundError as error:
            raise StoreError(f"{self.path} is not there any more; put it back.") from error
        except OSError as error:
            raise StoreError(f"{self.path} cannot be opened: {error.strerror}.") from error
        if sys.platform != "win32":
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._in_use() from None

    def _in_use(self) -> StoreError:
        return StoreError(
            f"{self.path} is in use by another process; stop that one, or choose another file with"
            " --store."
        )

    def note(self) -> None:
        """Note which files these are; the journal is there once something was written."""
        self._database, self._written = _identify(self._name), _identify(self._journal)
        self._is_known = True

    def find_loss(self) -> str | None:
        """Return what is up where the file, or its journal, is no longer what its name says."""
        if _identify(self._name) != self._database:
            return (
                f"{self.path} was moved, removed or replaced while it was in use; what was"
                " acknowledged is in the file that it was. Put that back under its name."
            )
        if _identify(self._journal) != self._written:
            return f"{self.path}-wal was removed while it was in use."
        return None

    def release(self) -> None:
        """Let others have the file; the connections to it are closed."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


def _identify(path: str) -> Identity:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_writer(real: Path, *, shown: Path) -> sqlite3.Connection:
    """Open the file for writing, its schema up to date; a file that is refused stays as it is."""
    try:
        connection = sqlite3.connect(
            real, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
        )
        try:
            _check_file(connection, shown)
            _migrate(connection, shown)
        except BaseException:
            connection.close()
            raise
    except sqlite3.OperationalError as error:
        raise StoreError(f"{shown} cannot be opened: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{shown} is damaged or not a SQLite file ({error}); move it away, or restore a backup."
        ) from error
    return connection


def _check_file(connection: sqlite3.Connection, path: Path) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and application_id != APPLICATION_ID:
        raise StoreError(f"{path} is the file of another program; choose another with --store.")
    if path.stat().st_size > QUICK_CHECK_BYTES:
        return
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise StoreError(f"{path} is damaged ({damage}); move it away, or restore a backup.")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    pending = pending_migrations("sqlite", version, where=str(path))
    # Set after the checks above, which leave a refused file untouched.
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    if pending:
        # In one transaction, since each waits for the disk.
        steps = " ".join(f"{sql}; PRAGMA user_version = {version};" for version, sql in pending)
        connection.executescript(f"BEGIN; {steps} COMMIT;")


def open_reader(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection
