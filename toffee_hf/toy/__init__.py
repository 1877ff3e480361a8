"""The toy world: seeded solid subjects in simple scenes and styles, whose true appearance is known everywhere."""
