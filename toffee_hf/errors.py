"""The errors that users see, one tree. The command line turns a branch into an exit status.

A message says the field, what was given, what is allowed, and the next step.
"""

from __future__ import annotations


class ToffeeError(Exception):
    """Root of every error that this project raises on purpose."""


class InputError(ToffeeError):
    """The user's input or arguments are wrong, and nothing was written. Exit status 2."""


class RecipeError(InputError):
    """A recipe that cannot be found, read or run."""


class FolderInUse(InputError):
    """Another live process works in the output folder."""


class RunMismatch(InputError):
    """The output folder belongs to another run."""


class RunError(ToffeeError):
    """The run ended before everything was done, and can be taken up again. Exit status 3."""


class DiskFull(RunError):
    """No space is left where the output goes."""
