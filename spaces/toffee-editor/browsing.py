"""The second tab: the pairs of a dataset, filtered by category, verdict, reason and score."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gradio as gr
import numpy as np

from cards import REASONS, SCORES, SHOWN, card, note
from pairs import STALE_S, Index, NoDataset, Pairs, Row, chosen, passing, ticked

PAGE, MOST_CARDS = 12, 240           # of a page; that are kept
AT_MOST = {"copy", "outside"}         # high is bad: the slider is an upper bound
VERDICTS = ["kept", "rejected"]
ALL = "any reason"
LEGEND = ('<p class="legend"><span class="solid">solid line: the subject</span> '
          '<span class="dashed">dashed line: where to edit</span></p>')


def add_tab(pairs: Pairs, tab: gr.Tab) -> None:
    """Build the tab inside the current Blocks; the dataset is read when it is opened."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=290, elem_id="filters"):
            summary = gr.HTML("<p>Reading the dataset …</p>", elem_id="summary")
            verdicts = gr.CheckboxGroup(VERDICTS, value=VERDICTS, label="Verdict", elem_id="verdicts")
            categories = gr.CheckboxGroup([], label="Category", elem_id="categories")
            reason = gr.Dropdown([ALL], value=ALL, label="Rejected for", elem_id="reason", filterable=False)
            gr.Markdown("Raise a threshold and see what it would keep.", elem_classes="hint")
            sliders = [_slider(name) for name in SHOWN]
            with gr.Accordion("More scores", open=False):
                sliders += [_slider(name) for name in SCORES if name not in SHOWN]
        with gr.Column(scale=3, min_width=320):
            gallery = gr.HTML(elem_id="pairs", padding=False)
            with gr.Row(elem_id="pager"):
                back = gr.Button("Previous", size="sm", elem_id="back", interactive=False)
                where = gr.Markdown("", elem_id="where")
                on = gr.Button("Next", size="sm", elem_id="on", interactive=False)
            page = gr.Number(0, visible=False, precision=0)
    filters = [verdicts, categories, reason, *(slider for slider, _ in sliders)]
    shown = [gallery, summary, where, back, on, page, *(under for _, under in sliders)]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}

    def show(page: int, *values: Any) -> Any:
        return view(pairs, page, *values)

    def first(*values: Any) -> Any:
        return view(pairs, 0, *values)

    tab.select(lambda *asked: choices(pairs, *asked), [categories, reason], [categories, reason], **quiet
               ).then(first, filters, shown, **quiet)
    gr.on([part.change for part in filters], first, filters, shown, trigger_mode="always_last", **quiet)
    for button, step in ((back, -1), (on, 1)):
        button.click(lambda page, *values, step=step: show((page or 0) + step, *values), [page, *filters], shown,
                     **quiet)


def _slider(name: str) -> tuple[gr.Slider, gr.HTML]:
    most = name in AT_MOST
    slider = gr.Slider(-1.0, 1.0, value=1.0 if most else -1.0, step=0.01, elem_id=f"score-{name}",
                       label=f"{SCORES[name]}: at {'most' if most else 'least'} ({name})", buttons=["reset"])
    return slider, gr.HTML(elem_id=f"keeps-{name}", elem_classes="keeps", padding=False)


def choices(pairs: Pairs, asked: Any, reason: Any) -> tuple[Any, Any]:
    """The categories and reasons that occur, most frequent reason first; what was asked for stays, at first all."""
    try:
        rows = pairs.index(STALE_S).rows
    except NoDataset:
        return gr.skip(), gr.skip()
    categories = sorted({str(row.words["category"]) for row in rows})
    reasons = [row.reason for row in rows if row.reason]
    table = [(f"{REASONS.get(reason, reason)} ({reasons.count(reason):,})", reason)
             for reason in sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))]
    asked = ticked(asked)
    return (gr.CheckboxGroup(choices=categories, value=[name for name in categories if name in asked] or categories),
            gr.Dropdown(choices=[(ALL, ALL), *table], value=reason if reason in reasons else ALL))


def view(pairs: Pairs, page: int, verdicts: list[str], categories: list[str], reason: str, *values: float
         ) -> tuple[Any, ...]:
    """Everything that the tab shows for these filters, in the order of its outputs."""
    names = [*SHOWN, *(name for name in SCORES if name not in SHOWN)]
    bounds = {name: value if isinstance(value, int | float) else 1.0 if name in AT_MOST else -1.0     # a box left empty
              for name, value in zip(names, values, strict=True)}
    try:
        return _view(pairs, pairs.index(), page, verdicts, categories, reason, bounds)
    except NoDataset as err:
        return _nothing(str(err), len(names))


def _view(pairs: Pairs, index: Index, page: int, verdicts: list[str], categories: list[str], reason: str,
          values: dict[str, float]) -> tuple[Any, ...]:
    among = chosen(index, verdicts, categories, "" if reason == ALL else reason)
    bounds = {name: (-np.inf, value) if name in AT_MOST else (value, np.inf)
              for name, value in values.items()}
    within = passing(index, bounds)
    every = np.flatnonzero(np.logical_and.reduce([among, *within.values()]))
    pages = max(1, -(-len(every) // PAGE))
    page = min(max(0, int(page)), pages - 1)
    rows = [index.rows[i] for i in every[page * PAGE : (page + 1) * PAGE]]
    notes = [note(index.scores[name][among], within[name][among]) if name in within else
             '<p class="note">not in this dataset</p>' for name in values]
    return (_cards(pairs, index, rows), _summary(index, among, len(every)),
            f"Page {page + 1} of {pages}", gr.Button(interactive=page > 0), gr.Button(interactive=page < pages - 1),
            page, *notes)


def _summary(index: Index, among: np.ndarray, kept: int) -> str:
    cut = f" Only the first {len(index.rows):,} rows are read." if index.cut else ""
    return (f"<p><strong>{kept:,}</strong> of {int(among.sum()):,} rows pass all thresholds</p>"
            f"<p>{len(index.rows):,} rows in all.{cut}</p>")


def _nothing(why: str, notes: int) -> tuple[Any, ...]:
    text = gr.HTML(f"<p class='missing'>{why} Whoever runs this page sets TOFFEE_DATASET to a folder that "
                   "<code>toffee build</code> wrote, or to ORG/NAME on the Hub.</p>")
    return text, "<p>No dataset.</p>", "", gr.Button(interactive=False), gr.Button(interactive=False), 0, *[""] * notes


def _cards(pairs: Pairs, index: Index, rows: list[Row]) -> str:
    """The cards of a page; those drawn lately, for anybody, are not drawn again. Raises NoDataset."""
    if not rows:
        return "<p class='missing'>No row passes. Lower a threshold, or tick more boxes.</p>"
    recent = _recent(index)           # which other visitors change meanwhile
    drawn = {row.where: made for row in rows if (made := recent.get(row.where))}
    new = [row for row in rows if row.where not in drawn]
    drawn |= {row.where: card(row, pictures) for row, pictures in zip(new, pairs.pictures(index, new), strict=True)}
    recent |= drawn
    for where in list(recent)[: -MOST_CARDS]:
        recent.pop(where, None)
    page = "".join(drawn[row.where] for row in rows)
    return f'{LEGEND}<ol class="pairs">{page}</ol>'


@lru_cache(maxsize=2)
def _recent(index: Index) -> dict[tuple[str, int, int], str]:
    return {}
