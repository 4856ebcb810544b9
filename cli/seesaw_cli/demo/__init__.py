"""``seesaw demo``."""
