"""The HTTP server of a worker: command line, preflight checks, loading, telemetry, shutdown."""
