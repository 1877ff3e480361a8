"""Input that does not fit: one clear sentence each."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.toffee_hf.pipelines.conftest import box, own, photo, seeded

BLACK, NAN = Image.new("L", (64, 64)), np.full((64, 64, 3), np.nan)
EMPTY = Image.new("RGBA", (64, 64))
TWO = {"prompt": ["a", "b"]}
MASKS = torch.stack([torch.eye(64), torch.eye(64).flip(0), torch.ones(64, 64)])
WRONG = [
    # subjects
    ({"subject_image": None}, "subject_image is missing"),
    ({"subject_image": []}, "at least one"),
    ({"subject_image": [[]]}, "at least one"),
    ({"subject_image": EMPTY}, "nothing to see in subject_image"),
    ({"subject_image": Image.new("RGB", (64, 64), "red")}, "nothing to see in subject_image"),
    ({"subject_mask": BLACK}, "nothing to see in subject_image"),
    ({"subject_mask": np.pad(np.ones((1, 1)), (0, 999)), "subject_image": photo(1, 1000, 1000)}, "too small"),
    ({"subject_mask": box(32, 64)}, "subject_mask is 32x64 and its picture 64x64"),
    ({"subject_mask": [box(), box()]}, "subject_mask must have the form of subject_image"),
    ({"subject_mask": torch.eye(64).expand(2, 1, 64, 64)}, "subject_mask must have the form"),
    ({**TWO, "subject_mask": [torch.eye(64).expand(2, 1, 64, 64)] * 2}, "one mask, got 1 of subject_image and 2 of"),
    ({"subject_image": "mug.png"}, "subject_image must be a PIL picture.*got str"),
    ({"subject_image": ["mug.png", "car.png"]}, "subject_image must be a PIL picture.*got str"),
    ({"subject_image": {"image": 1}}, "subject_image must be a PIL picture.*got dict"),
    ({"subject_image": torch.randint(2, 255, (3, 64, 64))}, r"subject_image must be in \[0, 1\], or 8 bit"),
    ({"subject_image": torch.rand(3, 64, 64) * 255}, r"subject_image must be in \[0, 1\]"),
    ({"subject_image": torch.rand(3, 64, 64) * 2 - 1}, r"subject_image must be in \[0, 1\]"),
    ({"subject_image": NAN}, r"subject_image must be in \[0, 1\]"),
    ({"subject_image": NAN + 1j}, "subject_image must be a PIL picture"),
    ({"subject_image": np.array([["a"]])}, "subject_image must be a PIL picture"),
    ({"subject_image": torch.rand(64, 64)}, "subject_image must be of shape"),
    ({"subject_image": torch.rand(2, 64, 64)}, "subject_image must be of shape"),
    ({"subject_image": torch.rand(3, 0, 64)}, "subject_image must be in"),
    ({"subject_image": torch.rand(1, 2, 3, 64, 64)}, "subject_image must be of shape"),
    ({**TWO, "subject_image": [photo(1)] * 3}, "there are 3 of subject_image for 2 prompts"),
    ({**TWO, "subject_image": [[photo(1)], [photo(1), photo(2)]]}, "the same number of subjects"),
    ({**TWO, "subject_image": [[photo(1)], photo(2)]}, "mixes pictures and lists"),
    ({"subject_image": [photo(1), photo(2)], "subject_regions": [box()]}, "a mask for each of the 2 subjects"),
    ({"subject_regions": BLACK}, "subject_regions is black all over"),
    ({"subject_regions": "left"}, "subject_regions must be a PIL picture"),
    ({"subject_scale": -0.1}, r"subject_scale must be in \[0, 2\], got -0.1"),
    ({"subject_scale": float("nan")}, "subject_scale must be in"),
    ({"subject_scale": "1"}, r"subject_scale must be in \[0, 2\], got '1'"),
    # a picture to edit
    ({"image": photo(7)}, "image and mask_image go together"),
    ({"mask_image": box()}, "image and mask_image go together"),
    ({"image": photo(7), "mask_image": box(64, 32)}, "mask_image is 64x32 and image 64x64"),
    ({"image": photo(7), "mask_image": BLACK}, "mask_image is black all over"),
    ({"image": photo(7), "mask_image": (np.array(box()) > 0).astype(np.uint8)}, "255 in 8 bit"),
    ({**TWO, "image": photo(7), "mask_image": [box(), BLACK]}, "mask_image is black all over"),
    ({"image": "photo.png", "mask_image": box()}, "image must be a PIL picture.*got str"),
    ({"image": photo(7), "mask_image": "mask.png"}, "mask_image must be a PIL picture.*got str"),
    ({"image": NAN, "mask_image": box()}, "image must be in"),
    ({"image": photo(7), "mask_image": NAN[..., 0]}, "mask_image must be in"),
    ({"image": photo(7), "mask_image": np.array(box(), dtype=np.int64)}, "mask_image must be in"),
    ({"image": photo(7), "mask_image": torch.rand(1, 2, 64, 64)}, "mask_image must be of one plane"),
    ({"prompt": ["a"] * 3, "image": photo(7), "mask_image": MASKS}, r"mask_image has three planes.*\(B, 1, H, W\)"),
    ({"image": [], "mask_image": box()}, "image must be pictures of one size, at least one"),
    ({**TWO, "image": [photo(7), photo(8, 32, 64)], "mask_image": box()}, "pictures of one size"),
    ({**TWO, "image": photo(7), "mask_image": [box(), box(32, 64)]}, "pictures of one size"),
    ({**TWO, "image": [photo(7)] * 3, "mask_image": box()}, "there are 3 of image for 2 prompts"),
    # depth
    ({"depth_image": "depth.png"}, "depth_image must be a PIL picture"),
    ({"depth_image": np.full((64, 64), 7.0)}, "depth_image must be in"),
    ({**TWO, "depth_image": [box()] * 3}, "there are 3 of depth_image for 2 prompts"),
    ({"depth_image": box(), "pose_image": photo(3)}, "either depth_image or pose_image"),
    ({"pose_image": photo(3)}, "pose_image needs a depth_estimator"),
    # text
    ({"prompt": None}, "either prompt or prompt_embeds"),
    ({"prompt_embeds": torch.zeros(1, 32, 32)}, "either prompt or prompt_embeds"),
    ({"prompt": []}, "prompt must be a text or a list of at least one"),
    ({"prompt": 7}, "prompt must be a text or a list of at least one, got 7"),
    ({"prompt": ["a", None]}, "prompt must be a text or a list"),
    ({"prompt": None, "prompt_embeds": torch.zeros(32, 32)}, "prompt_embeds must be a tensor"),
    ({"prompt": None, "prompt_embeds": torch.zeros(1, 32, 99)}, r"hidden states \(B, N, 32\), got \(1, 32, 99\)"),
    ({"negative_prompt": ["a", "b"]}, "there are 2 of negative_prompt for 1 prompts"),
    ({"negative_prompt": 7}, "negative_prompt must be a text"),
    ({"negative_prompt_embeds": torch.zeros(1, 8, 32)}, "negative_prompt_embeds must be of the shape"),
    ({"negative_prompt_embeds": "none"}, "negative_prompt_embeds must be of the shape"),
    # numbers
    ({"height": 60}, "height and width must be multiples of 16, got 60, None"),
    ({"width": 0}, "height and width must be multiples"),
    ({"height": -64, "width": 64}, "height and width must be multiples"),
    ({"height": 64.0}, "height and width must be multiples"),
    ({"num_images_per_prompt": 0}, "num_images_per_prompt must be at least 1"),
    ({"num_inference_steps": 0}, "num_inference_steps must be at least 1"),
    ({"num_inference_steps": 2.5}, "num_inference_steps must be at least 1"),
    ({"guidance_scale": float("inf")}, "guidance_scale must be a number"),
    ({"guidance_rescale": 1.5}, "guidance_rescale must be in"),
    ({"surface": -0.1}, "surface must be in"),
    ({"surface": "0.5"}, "surface must be in"),
    ({"eta": "0"}, "eta must be in"),
    ({"eta": 2.0}, "eta must be in"),
    ({"callback_on_step_end": 3}, "callback_on_step_end must be a function"),
    ({"guidance_scale": "2"}, "guidance_scale must be a number"),
    # the rest
    ({"generator": seeded(1, 2)}, "there are 2 generators for 1 pictures"),
    ({"generator": 0}, "generator must be a torch.Generator or a list of them, got 0"),
    ({"generator": [None]}, "generator must be a torch.Generator or a list"),
    ({"generator": tuple(seeded(1))}, "generator must be a torch.Generator or a list"),
    ({"latents": torch.zeros(1, 4, 8, 9)}, r"latents must be a tensor of shape \(1, 4, 8, 8\)"),
    ({"latents": "noise"}, "latents must be a tensor"),
    ({"output_type": "jpg"}, "output_type must be one of pil, np, pt, latent, got 'jpg'"),
    ({"callback_on_step_end_tensor_inputs": ["image"]}, "callback_on_step_end_tensor_inputs must be out of"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG, ids=[f"{i}: {text[:40]}" for i, (_, text) in enumerate(WRONG)])
def test_what_does_not_fit_is_told_in_one_sentence(draw, wrong, sentence):
    with pytest.raises(ValueError, match=sentence) as told:
        draw(**wrong)
    assert "\n" not in str(told.value) and len(str(told.value)) < 220


def test_embeddings_with_guidance_need_negative_ones_where_there_is_no_text_encoder(components, draw):
    deaf = own(components, text_encoder=None, tokenizer=None)
    for told in ({}, {"prompt": None, "prompt_embeds": torch.zeros(1, 32, 32)}):
        with pytest.raises(ValueError, match="has no text encoder: give prompt_embeds"):
            draw(on=deaf, **told)
