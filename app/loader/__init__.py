"""Loads workflows from users' files, folders and modules."""

from app.loader.errors import LoadError
from app.loader.sources import LoadedSources, LoadedWorkflow, load_sources

__all__ = ["LoadError", "LoadedSources", "LoadedWorkflow", "load_sources"]
