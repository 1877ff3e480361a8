"""Trainers, the pool of toy pictures they share, and the loop that makes every one of them resumable."""
