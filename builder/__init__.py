"""Building a dataset: recipe and subjects, plan, stages, shards, engines, report."""
