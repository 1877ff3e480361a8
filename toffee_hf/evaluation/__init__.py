"""Measurements on held-out toy subjects, whose true appearance is known pixel by pixel."""
