"""Toffee's Space: draw a subject into new pictures, and browse the dataset that taught it. `python app.py` runs it.

TOFFEE_MODEL, TOFFEE_DATASET: a folder or ORG/NAME on the Hub, with _REVISION to pin one; TOFFEE_OPEN=1 opens a browser.
"""

from __future__ import annotations

import os
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr

import browsing
import editing
import editor
from look import theme
from pairs import Pairs

HERE = Path(__file__).parent
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")     # read when the page is made
HEADER = ('<header><h1>Toffee</h1><p>Show it one particular thing, and it draws that thing somewhere else, or into a '
          "picture of yours.</p></header>")
HOUR, SWEEP = 3600, 600              # seconds: pictures are kept so long at most, and looked through so often


def make_page(model: str, dataset: str) -> gr.Blocks:
    """The page for a model that `editor.load` has tried to load."""
    with gr.Blocks(title="Toffee", fill_width=True, delete_cache=(SWEEP, HOUR - SWEEP)) as page:
        gr.HTML(HEADER, elem_id="top", padding=False)
        if editor.missing():
            gr.HTML(f'<p class="missing" role="alert">{escape(editor.missing())}</p>', elem_id="no-model")
        with gr.Tab("Draw", id="draw-tab"):
            editing.add_tab()
        with gr.Tab("Dataset", id="dataset-tab") as tab:
            browsing.add_tab(Pairs(dataset, os.environ.get("TOFFEE_DATASET_REVISION")), tab)
        gr.HTML(f"<p class='foot'>Model {escape(Path(model).name)} · dataset {escape(Path(dataset).name)} · pictures "
                "are kept for an hour at most</p>", padding=False)
    return page.queue(max_size=editing.WAITING_ROOM, default_concurrency_limit=8)


def launch_options() -> dict[str, Any]:
    """What `launch` is given; of this machine's files only the examples are served."""
    return {"theme": theme(), "css_paths": HERE / "style.css", "head_paths": HERE / "head.html", "ssr_mode": False,
            "max_file_size": "64mb", "allowed_paths": [str(editing.EXAMPLES)], "run_history": False,
            "mcp_server": find_spec("mcp") is not None, "inbrowser": os.environ.get("TOFFEE_OPEN") == "1",
            "footer_links": ["api", "settings"]}


if __name__ == "__main__":
    model = os.environ.get("TOFFEE_MODEL", "toffee-editor")
    editor.load(model, os.environ.get("TOFFEE_MODEL_REVISION"))
    make_page(model, os.environ.get("TOFFEE_DATASET", "toffee")).launch(**launch_options())
