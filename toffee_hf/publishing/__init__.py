"""Leaving the house: models as repositories that need nothing of this package to load."""
