"""Processes of a worker and the shared memory between them: nothing outlives its worker."""
