"""What a folder says about itself: the card, the contact sheet and the score histograms, all from its own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from builder.files import os_errors_are_input

if TYPE_CHECKING:
    from builder.report.statistics import Statistics

CARD = "README.md"
CONTACT_SHEET = "contact_sheet.png"
HISTOGRAMS = "score_histograms.png"


@os_errors_are_input("cannot use")
def write_report(output: Path) -> tuple[str, ...]:
    """Write README.md, contact_sheet.png and score_histograms.png of an output folder from its receipts and rows.

    The card comes last: its versions are what tells `datasets` that the rows have changed. Returns the files that
    receipts tell of and that are gone or cut; the report is of the rest.
    Raises InputError if the folder is no output folder or a file in it is damaged, DiskFull where there is no room.
    """
    from builder.files import write_atomically
    from builder.published import read_place
    from builder.report.card import dataset_card
    from builder.report.statistics import read_statistics

    statistics = read_statistics(output)
    place = read_place(output) if statistics.away else None
    where = (place.repository, place.revision) if place else (output.resolve().name,)
    for name, data in {**report_pictures(output, statistics), CARD: dataset_card(statistics, *where).encode()}.items():
        write_atomically(output / name, data)
    return statistics.lost


def report_pictures(output: Path, statistics: Statistics) -> dict[str, bytes]:
    from builder.report.contact_sheet import contact_sheet
    from builder.report.drawing import png
    from builder.report.histograms import score_histograms

    return {
        CONTACT_SHEET: png(contact_sheet(output, statistics)),
        HISTOGRAMS: png(score_histograms(output, statistics)),
    }


def lost_message(output: Path, lost: tuple[str, ...]) -> str:
    """One sentence about files that are gone."""
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    return (
        f"{output / lost[0]}{more} is gone or cut, though its receipt is there; the card tells of the rest: give the "
        "`toffee build` that made it again"
    )
