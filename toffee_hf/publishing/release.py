"""A folder as a release of a repository: one commit after which the repository is the folder, and a tag."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from toffee_hf.errors import HeadMoved, InputError
from toffee_hf.publishing.hub import Repository
from toffee_hf.publishing.repository import RepositoryFile

KEPT = (".gitattributes",)            # the Hub's own
NUMBERED = re.compile(r"v(\d+)")


@dataclass(frozen=True, slots=True)
class Changes:
    """What a commit would do. gone: paths that are removed."""

    new: tuple[RepositoryFile, ...]
    changed: tuple[RepositoryFile, ...]
    same: tuple[RepositoryFile, ...]
    gone: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """One for each file, and what is done with it."""
        marks = (("new", self.new), ("changed", self.changed), ("same", self.same))
        listed = [(file.path, f"{file.size:>13,}  {mark:7}  {file.path}") for mark, files in marks for file in files]
        listed += [(path, f"{'':>13}  {'removed':7}  {path}") for path in self.gone]
        return [line for _, line in sorted(listed)]

    @property
    def is_empty(self) -> bool:
        return not (self.new or self.changed or self.gone)


@dataclass(frozen=True, slots=True)
class Release:
    commit: str
    tag: str


def changes(repository: Repository, files: Sequence[RepositoryFile]) -> Changes:
    """Of the repository as it is, to become these files."""
    there = repository.files()
    same = tuple(file for file in files if file.path in there and there[file.path].equals(file.source))
    return Changes(
        new=tuple(file for file in files if file.path not in there),
        changed=tuple(file for file in files if file.path in there and file not in same),
        same=same,
        gone=tuple(sorted(there.keys() - {file.path for file in files} - {*KEPT})),
    )


def next_tag(repository: Repository) -> str:
    """v1, v2, ..."""
    numbers = [int(match[1]) for name in repository.tags() if (match := NUMBERED.fullmatch(name))]
    return f"v{max(numbers, default=0) + 1}"


def check_tag(repository: Repository, tag: str | None, found: Changes) -> None:
    """Raises InputError if the tag is on a commit that is not the one to release."""
    there = repository.tags().get(tag) if tag else None
    if there and not (found.is_empty and there == repository.head()):
        raise InputError(f"{repository.name} has a tag {tag} on another commit; give another --tag")


def release(repository: Repository, files: Sequence[RepositoryFile], title: str, tag: str | None = None) -> Release:
    """Commit what has changed, check it on the Hub, and tag it; what is there and tagged already stays as it is.

    title: of the commit. Raises HubError, and InputError for a tag that another commit has.
    """
    check_tag(repository, tag, changes(repository, files))
    commit, contents = repository.head(), {file.path: file.source for file in files}
    while not (found := changes(repository, files)).is_empty:
        try:
            commit = repository.commit(contents, title, commit, found.gone)
        except HeadMoved as moved:    # somebody has added something meanwhile: it is looked at again
            commit = moved.head
    repository.verify(contents, commit)
    tags = {target: name for name, target in repository.tags().items()}
    name = tag or tags.get(commit) or next_tag(repository)
    if tags.get(commit) != name:
        repository.tag(name, commit)
    return Release(commit, name)
