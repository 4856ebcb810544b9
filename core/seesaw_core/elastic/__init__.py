"""Elastic sequence parallelism: instances that form groups anew for every iteration."""
