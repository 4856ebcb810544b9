"""The planner: chooses layouts for a model, accelerator and workload, and predicts the gain."""
