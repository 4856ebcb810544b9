"""The planner: models, accelerators and workloads in; layouts, throughput and gains out."""
