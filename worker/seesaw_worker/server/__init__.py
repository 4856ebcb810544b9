"""The HTTP server of a worker: command line, loading, telemetry and shutdown."""
