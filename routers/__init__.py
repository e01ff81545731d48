"""HTTP: each router translates one resource to the registry and back; none decides anything."""
