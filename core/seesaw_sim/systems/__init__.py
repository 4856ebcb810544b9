"""The serving systems that can be simulated: static layouts, re-sharding, disaggregation."""
