"""The planner: chooses layouts for a model, an accelerator and a workload, and predicts the gain."""
