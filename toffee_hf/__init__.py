"""Toffee: subject-driven image datasets without tuning a model on any subject."""

__version__ = "0.1.0"
