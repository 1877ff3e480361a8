"""Engines: what calls `run_shard` for many shards. None of them filters, reorders or retries rows."""
