"""``seesaw calibrate``."""
