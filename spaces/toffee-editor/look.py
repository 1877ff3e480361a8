"""Colours and type: caramel on paper by day, on cocoa by night; no font is fetched."""

from __future__ import annotations

import gradio as gr

CARAMEL = gr.themes.Color(name="caramel", c50="#fdf6ec", c100="#f9e8cf", c200="#f2d0a1", c300="#e8b36f", c400="#d99445",
                          c500="#c2762a", c600="#a35c1c", c700="#824616", c800="#643513", c900="#4a2810",
                          c950="#2b1608")
COCOA = gr.themes.Color(name="cocoa", c50="#faf8f5", c100="#f2eee8", c200="#e4ddd3", c300="#cdc3b6", c400="#a2968a",
                        c500="#75695e", c600="#584e45", c700="#40372f", c800="#2b2520", c900="#1e1a16", c950="#15120f")
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif")


def theme() -> gr.themes.Base:
    """Gradio's base theme in our colours; contrasts are at least 4.5 for text."""
    base = gr.themes.Base(primary_hue=CARAMEL, secondary_hue=CARAMEL, neutral_hue=COCOA, radius_size="lg",
                          spacing_size="md", font=SANS, font_mono=("ui-monospace", "Consolas", "monospace"))
    return base.set(
        body_background_fill="*neutral_50", body_background_fill_dark="*neutral_950",
        block_background_fill="#ffffff", block_background_fill_dark="*neutral_900",
        block_border_width="1px", block_border_color="*neutral_200", block_border_color_dark="*neutral_800",
        block_label_background_fill="transparent", block_label_background_fill_dark="transparent",
        block_label_border_width="0px", block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_400",
        block_title_text_weight="600", block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100", block_shadow="0 1px 2px rgb(60 40 20 / 5%)",
        input_background_fill="*neutral_50", input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_400", input_border_color_dark="*neutral_600",
        body_text_color="*neutral_900", body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_600", button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover="*primary_700", button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color="#ffffff", button_primary_text_color_dark="*neutral_950",
        button_secondary_background_fill="#ffffff", button_secondary_background_fill_dark="*neutral_800",
        button_secondary_border_color="*neutral_300", button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px", slider_color="*primary_600", slider_color_dark="*primary_400",
        link_text_color="*primary_700", link_text_color_dark="*primary_300",
    )
