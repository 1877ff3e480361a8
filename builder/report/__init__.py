"""What a folder says about itself: the card, the contact sheet and the score histograms, all from its own files."""

from __future__ import annotations

from pathlib import Path

CARD = "README.md"
CONTACT_SHEET = "contact_sheet.png"
HISTOGRAMS = "score_histograms.png"


def write_report(output: Path) -> None:
    """Write README.md, contact_sheet.png and score_histograms.png of an output folder from its receipts and rows.

    The card comes last: its versions are what tells `datasets` that the rows have changed.
    Raises InputError if the folder is no output folder, DiskFull where there is no room.
    """
    from builder.files import write_atomically
    from builder.report.card import dataset_card
    from builder.report.contact_sheet import contact_sheet
    from builder.report.drawing import png
    from builder.report.histograms import score_histograms
    from builder.report.statistics import read_statistics

    statistics = read_statistics(output)
    write_atomically(output / CONTACT_SHEET, png(contact_sheet(output, statistics)))
    write_atomically(output / HISTOGRAMS, png(score_histograms(output, statistics)))
    write_atomically(output / CARD, dataset_card(statistics, output.name).encode())
