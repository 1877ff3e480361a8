"""The first tab: photos, a prompt, perhaps a scene with a mask; pictures, compared with what was given."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

import editor
from editor import MOST_SEED, RANGES, Wish, friendly, number
from pictures import PLACES, Unusable, on_ground, opened, painted, placed

EXAMPLES = Path(__file__).parent / "examples"
PAINTED_PLACE, *_, RIGHT = PLACES
EMPTY = "<p>Your pictures appear here. Add a photo and a prompt, or try an example.</p>"
MOST_LAYERS = 4                       # of paint; the page sends one
ALIKE = 0.02                          # by which the shapes of a mask and its scene may differ
WAITING_ROOM = 24                     # visitors who may wait; later ones are told to come back


def add_tab() -> None:
    """Build the tab inside the current Blocks."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            buttons = _example_buttons()
            subjects = gr.Gallery(label="Subject photos", elem_id="subjects", interactive=True, columns=4, height=190,
                                  fit_columns=False, object_fit="contain", format="png", file_types=["image"],
                                  buttons=[])
            gr.Markdown("One thing to a photo, up to four. A transparent PNG shows exactly the subject; of any other "
                        "picture everything counts, so crop closely.", elem_classes="hint")
            prompt = gr.Textbox(label="Prompt", elem_id="prompt", lines=2, max_lines=6,
                                placeholder="a duck in the snow",
                                info="Name the thing, and say where it is or how it looks.")
            part, scene, place = _scene()
            numbers = _settings()
            draw = gr.Button("Draw", variant="primary", size="lg", elem_id="draw")
        with gr.Column(scale=6, min_width=320, elem_id="results"):
            slider = gr.ImageSlider(label="Before and after", elem_id="slider", interactive=False, format="png",
                                    height=460, max_height=460, buttons=["download", "fullscreen"])
            status = gr.HTML(EMPTY, elem_id="status")
            gallery = gr.Gallery(label="Pictures", elem_id="pictures", interactive=False, columns=4, height=190,
                                 fit_columns=False, object_fit="contain", format="png", allow_preview=False,
                                 buttons=["download_all"])
    given = [subjects, prompt, scene, place, *numbers]
    shown = [slider, gallery, status, numbers[-2]]
    private: dict[str, Any] = {"api_visibility": "private"}

    run: dict[str, Any] = dict(fn=draw_for_page, inputs=given, outputs=shown, preprocess=False, concurrency_limit=1,
                               concurrency_id="draw", scroll_to_output=False, show_progress_on=[slider], **private)
    gr.on([draw.click, prompt.submit], trigger_mode="once", **run)
    subjects.upload(cleaned, subjects, subjects, preprocess=False, **private)
    gallery.select(compared, [slider, gallery], slider, preprocess=False, show_progress="hidden", **private)
    for button, row in buttons:
        _keep(row, button, scene)
        button.click(_chosen(row), None, [subjects, prompt, scene, place, part], **private).then(**run)
    _add_api()


def _example_buttons() -> list[tuple[gr.Button, dict[str, str]]]:
    rows = json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8"))
    gr.Markdown("Try one", elem_classes="caption")
    with gr.Row(elem_id="examples"):
        return [(gr.Button(row["title"], icon=EXAMPLES / row["subject"], size="md", min_width=90), row) for row in rows]


def _keep(row: dict[str, str], button: gr.Button, scene: gr.ImageEditor) -> None:
    """The pictures of an example stay in gradio's cache, from which those of visitors are swept."""
    for part, name in ((button, "subject"), (scene, "scene")):
        if name in row:
            part.keep_in_cache.add(part.move_resource_to_block_cache(EXAMPLES / row[name]))


def _chosen(row: dict[str, str]) -> Any:
    """What an example puts into subjects, prompt, scene and place; its part is opened where it has one."""
    def choose() -> tuple[Any, ...]:
        edits = "scene" in row        # its place is named: gradio reloads a value that has layers for ever
        scene: Any = {"background": str(EXAMPLES / row["scene"]), "layers": [], "composite": None} if edits else None
        return ([str(EXAMPLES / row["subject"])], row["prompt"], scene, RIGHT if edits else PAINTED_PLACE,
                gr.Accordion(open=edits))
    return choose


def _scene() -> tuple[gr.Accordion, gr.ImageEditor, gr.Radio]:
    with gr.Accordion("Put it into a scene of yours", open=False, elem_id="scene-part") as part:
        gr.Markdown("Add a picture, then paint where the subject should go. Everything else stays as it is.",
                    elem_classes="hint")
        scene = gr.ImageEditor(label="Scene", elem_id="scene",
                               type="pil", sources=("upload", "clipboard"), transforms=(), layers=False, height=420,
                               brush=gr.Brush(colors=["#ffffff"], color_mode="fixed", default_size=30),
                               eraser=gr.Eraser(default_size=30), format="png", buttons=[])
        place = gr.Radio(list(PLACES), value=PAINTED_PLACE, label="Where", elem_id="place",
                         info="Without a mouse, choose a place. What is painted counts first.")
    return part, scene, place


def _settings() -> list[Any]:
    """Strength, steps, pictures, seed, and whether the seed is drawn anew."""
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        scale = gr.Slider(*RANGES["Subject strength"], value=1.0, step=0.05, label="Subject strength (λ)",
                          elem_id="strength", info="0: the prompt alone. 1: as trained. Above: nearer to the photo.")
        steps = gr.Slider(*RANGES["Steps"], value=20, step=1, label="Steps", elem_id="steps",
                          info="More take longer and change little after 20.")
        count = gr.Slider(*RANGES["Pictures"], value=1, step=1, label="Pictures", elem_id="count")
        with gr.Row():
            seed = gr.Number(0, precision=0, label="Seed", elem_id="seed", info="The same seed draws the same again.")
            anew = gr.Checkbox(True, label="New seed each time", elem_id="anew")
    return [scale, steps, count, seed, anew]


def draw_for_page(*sent: Any) -> tuple[Any, ...]:
    """Slider, gallery, status and seed for what the page sent, unprocessed; what is wrong stays in the status."""
    try:
        return _drawn(*sent)
    except gr.Error as err:
        gr.Warning(err.message, title=err.title, duration=err.duration)
        return gr.skip(), gr.skip(), f'<p class="missing">{err.message}</p>', gr.skip()


def _drawn(subjects: Any, prompt: str, drawing: Any, place: str, *numbers: Any) -> tuple[Any, ...]:
    scale, steps, count, seed, anew = numbers
    seed = random.randrange(MOST_SEED + 1) if anew else number(seed)
    try:
        background, layers = _drawing(drawing)
        photos = _photos(subjects)
        found = painted(layers, background.size) if background else None
        if background and not found:
            found = placed(place, background.size, next(iter(photos), None))
        wish = _wish(photos, prompt, background, found, scale, steps, count, seed)
    except Unusable as err:
        raise friendly(str(err)) from err
    began = time.monotonic()
    pictures = editor.drawn(wish)
    before = on_ground(background or wish.subjects[0], pictures[0].size)
    what = "1 picture" if wish.count == 1 else f"{wish.count} pictures"
    status = (f"<p>{what} in {time.monotonic() - began:.1f} s · {wish.steps} steps · λ {wish.subject_scale:g} · "
              f"seed {seed}. {'Choose one to compare it.' if wish.count > 1 else 'Drag the handle to compare.'}</p>")
    return (before, pictures[0]), [(picture, f"seed {seed + i}") for i, picture in enumerate(pictures)], status, seed


def _photos(subjects: Any) -> tuple[Image.Image, ...]:
    """The photos of a gallery. Raises Unusable."""
    if len(_listed(subjects)) > editor.MOST_SUBJECTS:
        raise Unusable(f"These are {len(subjects)} photos; keep at most {editor.MOST_SUBJECTS}.")
    return tuple(opened(file, f"Photo {i}") for i, file in enumerate(_files(subjects), 1))


def _wish(subjects: tuple[Image.Image, ...], prompt: str, scene: Image.Image | None, mask: Image.Image | None,
          scale: Any, steps: Any, count: Any, seed: Any) -> Wish:
    return Wish(prompt=prompt, subjects=subjects, scene=scene, mask=mask, subject_scale=number(scale),
                steps=number(steps), count=number(count), seed=seed)


def _files(gallery: Any) -> list[str]:
    """Paths in what a gallery sent. Raises Unusable."""
    return [_upload(isinstance(item, dict) and (item.get("image") or item.get("video")), f"Photo {i}")
            for i, item in enumerate(_listed(gallery), 1)]


def _listed(sent: Any) -> list[Any]:
    """What was sent where a list belongs; nothing checks that it is one."""
    return list(sent) if isinstance(sent, list | tuple) else [sent] if sent else []


def _upload(file: Any, name: str) -> str:
    """Its path. Raises Unusable where it is no upload: gradio checks that only of files sent with their `meta`."""
    try:
        path = Path(file["path"]).resolve()
    except (TypeError, LookupError, ValueError, OSError):     # no file, or no path
        path = Path("/")
    if not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise Unusable(f"{name} is not among the uploads: add it again.")
    return str(path)


def _drawing(sent: Any) -> tuple[Image.Image | None, Iterable[Image.Image]]:
    """The scene and the layers painted on it, opened one after another, in what the canvas sent. Raises Unusable."""
    canvas = sent if isinstance(sent, dict) else {"background": sent}
    if not canvas.get("background"):
        return None, ()
    scene = opened(_upload(canvas["background"], "The scene"), "The scene")
    layers, name = _listed(canvas.get("layers")), "What was painted"
    if len(layers) > MOST_LAYERS:
        raise Unusable(f"{name} has {len(layers)} layers; at most {MOST_LAYERS} are read. Add the scene again.")
    return on_ground(scene, scene.size), (opened(_upload(layer, name), name) for layer in layers if layer)


def cleaned(sent: Any) -> list[Image.Image]:
    """New photos made small, upright and free of hidden data; what is no picture goes, with a word about it."""
    kept = []
    for i, item in enumerate(_listed(sent)[: editor.MOST_SUBJECTS + 1], 1):
        try:
            kept.append(opened(_files([item])[0], f"Photo {i}"))
        except Unusable as err:
            gr.Warning(str(err), title="Left out", duration=12)
    if len(kept) > editor.MOST_SUBJECTS:
        gr.Warning(f"The first {editor.MOST_SUBJECTS} photos are kept.", title="Too many photos")
    return kept[: editor.MOST_SUBJECTS]


def compared(slider: Any, gallery: Any, event: gr.SelectData) -> Any:
    """The chosen picture in the slider, beside what it was made from."""
    if not slider:
        return None
    try:
        before, drawn = _upload(_listed(slider)[0], "The picture"), _files(gallery)
        if event.index not in range(len(drawn)) or not all(map(os.path.isfile, (before, drawn[event.index]))):
            raise Unusable("The picture is no longer kept; draw it again.")
        return before, drawn[event.index]
    except Unusable as err:
        raise friendly(str(err)) from err


def _add_api() -> None:
    """The one public endpoint, which is the MCP tool as well."""
    with gr.Row(visible=False):
        subject, scene, mask = (gr.Image(label=name) for name in ("Subject", "Scene", "Mask"))
        prompt = gr.Textbox(label="Prompt")
        numbers = [gr.Number(value, label=name) for name, value in (("Subject strength", 1.0), ("Steps", 20),
                                                                    ("Seed", 0))]
        picture = gr.Image(label="Picture", format="png")
        gr.Button("Edit").click(edit_picture, [subject, prompt, scene, mask, *numbers], picture, preprocess=False,
                                api_name="edit", concurrency_limit=1, concurrency_id="draw")


def edit_picture(subject: Any, prompt: str, scene: Any = None, mask: Any = None, subject_scale: float = 1.0,
                 steps: int = 20, seed: int = 0) -> Image.Image:
    """Draw one particular thing as a prompt says, in a new picture or inside a mask of a given picture.

    Args:
        subject: a photo of the thing, best a PNG that is transparent around it
        prompt: what to draw; names the thing, and says where it is or how it looks
        scene: a picture to edit; left out, a new picture is drawn
        mask: white where the thing should go in the scene, black elsewhere, of the scene's shape
        subject_scale: how closely the photo is followed, 0 to 2
        steps: denoising steps, 1 to 50
        seed: of the noise, 0 to 2147483647; another one draws another picture

    Returns:
        The picture.
    """
    try:
        background, where = (opened(_upload(part, name), name) if part else None
                             for part, name in ((scene, "The scene"), (mask, "The mask")))
        if background and where:
            if abs(where.width * background.height / (where.height * background.width) - 1) > ALIKE:
                raise Unusable("The mask has another shape than the scene: give it the scene's width and height.")
            background, where = on_ground(background, background.size), where.convert("L").resize(background.size)
            if not where.getbbox():
                raise Unusable("The mask is black all over: paint white where the subject should go.")
        photos = _photos([{"image": subject}] if subject else [])
        wish = _wish(photos, prompt, background, where, subject_scale, steps, 1, number(seed))
    except Unusable as err:
        raise friendly(str(err)) from err
    picture: Image.Image = editor.drawn(wish)[0]
    return picture
