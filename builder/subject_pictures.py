"""Candidate pictures become subjects: read, checked by their header, hashed, and freed of duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from builder.progress import progress
from builder.subjects import Locator, Skipped, Subject, SubjectIndex, content_hash
from toffee_hf.images import ImageError, probe

_MOST_CHARACTERS = 100  # of a class name, which stands in every prompt
_READERS = 4  # threads: reading waits for disks, hashing releases the GIL


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture that somebody named. file: for people; class_name as given; subject_id empty: the picture itself."""

    file: str
    class_name: str
    subject_id: str
    locator: Locator


def index_candidates(
    spec: str, candidates: Iterable[Candidate], skipped: Iterable[Skipped], total: int
) -> SubjectIndex:
    """Check every candidate; the first of identical pictures stays. Costs one read of each file."""
    left_out, subjects, owners = list(skipped), [], dict[str, str]()
    for candidate, outcome in _checked(candidates, total):
        if isinstance(outcome, Skipped):
            left_out.append(outcome)
        elif outcome in owners:
            left_out.append(Skipped(candidate.file, f"duplicate: of {owners[outcome]}"))
        else:
            owners[outcome] = candidate.file
            subjects.append(_subject(candidate, outcome))
    subjects.sort(key=lambda subject: subject.content_hash)
    return SubjectIndex(spec, tuple(subjects), tuple(left_out))


def _checked(candidates: Iterable[Candidate], total: int) -> Iterator[tuple[Candidate, str | Skipped]]:
    with ThreadPoolExecutor(_READERS) as pool:
        for chunk in _chunks(progress(candidates, "indexing pictures", total), 256):
            yield from zip(chunk, pool.map(_check, chunk), strict=True)


def _chunks(items: Iterable[Candidate], size: int) -> Iterator[list[Candidate]]:
    chunk: list[Candidate] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _check(candidate: Candidate) -> str | Skipped:
    """The content hash, or why the picture is left out."""
    reason = _bad_name(candidate)
    if reason:
        return Skipped(candidate.file, reason)
    try:
        data = candidate.locator.read()
        probe(data)
    except ImageError as err:
        return Skipped(candidate.file, err.reason)
    except OSError as err:
        return Skipped(candidate.file, f"unreadable_file: {err.strerror or err}")
    return content_hash(data)


def _bad_name(candidate: Candidate) -> str:
    """What is wrong with the candidate's words, or nothing."""
    if not clean_text(candidate.class_name):
        return "no_class_name"
    if len(clean_text(candidate.class_name)) > _MOST_CHARACTERS:
        return "long_class_name"
    words = (candidate.file, candidate.class_name, candidate.subject_id)
    return "" if all(map(_is_utf8, words)) else "not_utf8"


def _is_utf8(text: str) -> bool:
    """Not so where bytes of another encoding came in as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _subject(candidate: Candidate, digest: str) -> Subject:
    return Subject(
        content_hash=digest,
        subject_id=clean_text(candidate.subject_id) or digest[:16],
        class_name=clean_text(candidate.class_name),
        locator=candidate.locator,
        file=candidate.file,
    )


def clean_text(text: str) -> str:
    """One line without outer or double spaces, so that it can stand in a prompt."""
    return " ".join(text.split())
