"""``seesaw serve``."""
