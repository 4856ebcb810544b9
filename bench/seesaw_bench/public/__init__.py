"""Our predictions beside figures that others have published of real GPUs."""
