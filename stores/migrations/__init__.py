"""The numbered, append-only migrations of the SQL stores.

A schema's version is the number of migrations that made it. A migration is never changed once it
was released; a change is a new one.
"""

from importlib.resources import files

from workflow_server.stores.base import StoreError


def load_migrations(backend: str) -> list[str]:
    """Return the SQL of a backend's migrations, in order."""
    folder = files(__name__) / backend
    scripts = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name
    )
    return [script.read_text(encoding="utf-8") for script in scripts]


def pending_migrations(
    backend: str, version: int, *, where: str, oldest: int | None = None
) -> list[tuple[int, str]]:
    """Return the migrations that a schema of this version lacks, with the versions they make.

    Raises `StoreError` for a schema that a newer release has made, unless what it has added leaves
    room for earlier ones: `oldest` is the version that a release has to know at least.
    """
    migrations = load_migrations(backend)
    if version > len(migrations) and (oldest is None or oldest > len(migrations)):
        raise StoreError(
            f"{where} has schema version {version}, and this release knows versions up to"
            f" {len(migrations)}; use the newer release that made it."
        )
    return list(enumerate(migrations, start=1))[version:]
