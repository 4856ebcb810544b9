"""A worker's settings, which are parsed once and then passed down."""
