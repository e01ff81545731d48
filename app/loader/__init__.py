"""Loads workflows from users' files, folders and modules."""

from workflow_server.app.loader.errors import LoadError
from workflow_server.app.loader.sources import LoadedSources, LoadedWorkflow, load_sources

__all__ = ["LoadError", "LoadedSources", "LoadedWorkflow", "load_sources"]
