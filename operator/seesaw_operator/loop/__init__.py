"""The control loop: what is watched, when a resource is reconciled, and what is written."""
