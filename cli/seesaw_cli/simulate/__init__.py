"""``seesaw simulate``."""
