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


class HubError(RunError):
    """The Hub could not be brought to where it should be; what is there is whole. Exit status 3."""


class HubRefusal(HubError):
    """The Hub says no, and would say so again. status: of HTTP; said: its own words."""

    def __init__(self, message: str, status: int, said: str) -> None:
        super().__init__(message)
        self.status, self.said = status, said


class HeadMoved(HubError):
    """Somebody else has committed to the repository since we last looked. head: the commit that is there now."""

    def __init__(self, message: str, head: str) -> None:
        super().__init__(message)
        self.head = head


class OtherPublisher(HubError):
    """Another run writes to the same repository."""
