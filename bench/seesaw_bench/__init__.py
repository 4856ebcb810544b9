"""The laboratory: benchmarks and studies. Not part of the wheel or of any image."""
