"""The status of a resource: pure functions from what is observed to conditions and events."""
