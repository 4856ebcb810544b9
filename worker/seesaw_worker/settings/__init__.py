"""A worker's settings: parsed once, then only passed down."""
