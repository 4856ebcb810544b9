"""The chart's values, its README and its dashboard, made from one source each by ``make docs``."""
