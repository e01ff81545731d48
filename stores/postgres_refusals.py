"""Refusals of a Postgres that cannot be used: where it is, what is up, and what helps."""

import shlex
import ssl

import asyncpg

from workflow_server.stores.base import StoreError
from workflow_server.stores.postgres_errors import one_line
from workflow_server.stores.postgres_url import PostgresUrl

CREDENTIALS = "Correct the user and the password in the store's URL."
PLAIN = "no encryption"  # what the server adds where it lets in those who encrypt
FEW = (
    "Raise max_connections there, or the limit of the user: a server opens up to five, or six with"
    " --replicas."
)
STANDBY = "Name the primary in the store's URL, or all hosts with target_session_attrs=read-write."
TLS = (
    "Name the certificate of the database's authority with sslrootcert=FILE in the store's URL, or"
    " trust those that the system trusts with sslrootcert=system."
)
NO_TLS = "Let Postgres encrypt connections, or set sslmode=prefer in the store's URL."
UNREACHABLE = "Start Postgres there, or correct the host and the port in the store's URL."
FILES = "Correct the files of certificates and keys that the store's URL names."
IN_THE_URL = "Correct the store's URL."


def refusal(error: BaseException, url: PostgresUrl) -> StoreError:
    """Return the error to raise where a database cannot be used."""
    is_late = isinstance(error, TimeoutError) and not str(error)
    why = f"it has not answered within {url.timeout:g} s" if is_late else one_line(error)
    database = url.database or "of the user's name"
    place = f"host {url.hosts}, port {url.ports}, database {database}"
    return StoreError(f"Postgres cannot be used ({place}): {why}. {_fix(error, url)}".rstrip())


def _fix(error: BaseException, url: PostgresUrl) -> str:
    """Return what helps; the narrower errors come first."""
    match error:
        case asyncpg.InvalidCatalogNameError():
            return f"Create it with `{_createdb(url)}`, or name another one in the store's URL."
        case asyncpg.InvalidAuthorizationSpecificationError():
            return "Set sslmode=require in the store's URL." if PLAIN in str(error) else CREDENTIALS
        case asyncpg.InsufficientPrivilegeError():
            return f"Let the owner of the database run `{_grant(url)}`."
        case asyncpg.ReadOnlySQLTransactionError() | asyncpg.TargetServerAttributeNotMatched():
            return STANDBY
        case asyncpg.TooManyConnectionsError():
            return FEW
        case asyncpg.CannotConnectNowError():
            return "Try again in a moment."
        case ssl.SSLError():
            return TLS
        case ConnectionError() if "rejected SSL" in str(error):
            return NO_TLS
        case asyncpg.ClientConfigurationError() | asyncpg.InvalidParameterValueError():
            return IN_THE_URL
        case FileNotFoundError() | PermissionError() if not url.hosts.startswith("/"):
            return FILES  # for only the place of a socket is a file else
        case OSError():
            return UNREACHABLE
    return ""


def _createdb(url: PostgresUrl) -> str:
    host, port = url.hosts.partition(",")[0].strip("[]"), url.ports.partition(",")[0]
    user = ("--username", url.user) if url.user else ()
    return shlex.join(("createdb", "--host", host, "--port", port, *user, "--", url.database))


def _grant(url: PostgresUrl) -> str:
    database, user = (name.replace('"', '""') for name in (url.database, url.user))
    return f'GRANT CREATE ON DATABASE "{database}" TO "{user}"'
