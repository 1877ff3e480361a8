"""Toffee's editor as modular blocks of diffusers: the steps of `ToffeePipeline`, to be taken apart and recombined.

Imports one file of Toffee, which lies beside it wherever it goes: the classic pipeline, whose steps these are, so that
both forms draw the same pixels from one copy of the weights. In a repository with both, `model_index.json` is the
classic form's and `modular_model_index.json` the modular one's.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

from diffusers import AutoModel, EulerDiscreteScheduler
from diffusers.modular_pipelines import (
    ComponentSpec,
    InputParam,
    ModularPipelineBlocks,
    OutputParam,
    PipelineState,
    SequentialPipelineBlocks,
)
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    DepthAnythingForDepthEstimation,
    Dinov2Model,
)

from .pipeline_toffee import ToffeePipeline, _Subjects, _Text, conditions, with_subjects

# The index names the module of a component's class, and diffusers accepts any that is imported already. Where it puts
# this file depends on the commit, so the file goes by its plain name too.
sys.modules["toffee_blocks"] = sys.modules[__name__]


FILES = {"ToffeeAutoencoder": "toffee_autoencoder", "ToffeeEditorUNet": "toffee_editor_unet"}


class ToffeeComponent(AutoModel):
    """AutoModel for a model whose class lies beside its weights, blind to `model_index.json`: AutoModel would read that
    first, and take the class named there for one of an installed library."""

    @classmethod
    def load_config(cls, *arguments: Any, **keywords: Any) -> Any:
        """The model's own configuration, and where its class is."""
        if cls.config_name == "model_index.json":
            raise OSError("modular blocks do not read the classic index")
        config = super().load_config(*arguments, **keywords)
        name = config["_class_name"]
        return {**config, "auto_map": {cls.__name__: f"{FILES[name]}.{name}"}}


CLASSES = {
    "vae": ToffeeComponent, "unet": ToffeeComponent, "encoder": Dinov2Model, "scheduler": EulerDiscreteScheduler,
    "text_encoder": CLIPTextModel, "tokenizer": CLIPTokenizer, "text_encoder_2": CLIPTextModelWithProjection,
    "tokenizer_2": CLIPTokenizer, "depth_estimator": DepthAnythingForDepthEstimation,
}


class _Block(ModularPipelineBlocks):
    """A part of the classic pipeline's call.

    needs: components; takes: arguments of that call; finds: what the next blocks read; reads: what earlier ones found.
    """

    model_name = "toffee"
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    finds: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        return inspect.getdoc(type(self)) or ""

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [ComponentSpec(name, CLASSES[name]) for name in self.needs]

    @property
    def inputs(self) -> list[InputParam]:
        known = inspect.signature(ToffeePipeline.__call__).parameters
        return [*(InputParam(name, default=known[name].default, description="as ToffeePipeline takes it")
                  for name in self.takes),
                *(InputParam(name, description="of an earlier block") for name in self.reads)]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam(name, description=f"of {type(self).__name__}") for name in self.finds]

    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        asked = self.get_block_state(state)
        for name, value in zip(self.finds, self.found(self._classic(components, asked), asked), strict=True):
            setattr(asked, name, value)
        self.set_block_state(state, asked)
        return components, state

    def found(self, pipe: ToffeePipeline, asked: Any) -> tuple[Any, ...]:
        """What this part of the call finds, in the order of `finds`."""
        raise NotImplementedError

    def _classic(self, components: Any, asked: Any) -> ToffeePipeline:
        """The classic pipeline around these components; what no block has loaded is None."""
        pipe = ToffeePipeline(**{name: getattr(components, name, None) for name in CLASSES})
        pipe.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
        pipe._guidance_scale, pipe._interrupt = getattr(asked, "guidance_scale", 1.0), False
        pipe._guidance_rescale = getattr(asked, "guidance_rescale", 0.0)
        return pipe


class ToffeeInputBlock(_Block):
    """Checks what is asked; what the denoiser is told beside the text: surroundings, depth and subjects."""

    needs = ("vae", "unet", "encoder", "scheduler", "depth_estimator")
    takes = ("prompt", "prompt_embeds", "subject_image", "subject_mask", "subject_regions", "subject_scale", "image",
             "mask_image", "depth_image", "pose_image", "height", "width", "num_inference_steps", "guidance_scale",
             "guidance_rescale", "num_images_per_prompt", "eta", "surface", "output_type")
    finds = ("given", "own", "size", "told")

    def found(self, pipe: ToffeePipeline, asked: Any) -> tuple[Any, ...]:
        pipe._check(asked.subject_image, asked.image, asked.mask_image, asked.depth_image, asked.pose_image,
                    asked.output_type)
        pipe._check_numbers(asked.subject_scale, asked.guidance_scale, asked.guidance_rescale,
                            asked.num_inference_steps, asked.num_images_per_prompt, asked.eta, asked.surface,
                            asked.height, asked.width)
        count, device = pipe._count(asked.prompt, asked.prompt_embeds), pipe._execution_device
        given = None if asked.image is None else pipe._to_edit(asked.image, asked.mask_image, count)
        size = pipe._size(asked.height, asked.width, given)
        source, mask = (x.to(device) for x in pipe._canvas(given, count, *size))
        subjects = pipe._subjects(asked.subject_image, asked.subject_mask, asked.subject_regions, count, *size)
        subjects = _Subjects(subjects.x.to(device), subjects.mask.to(device),
                             None if subjects.region is None else subjects.region.to(device))
        depth = pipe._depth(asked.depth_image, asked.pose_image, count, *size)
        with pipe._enough_range():
            space = conditions(pipe._encode, source, mask, depth, subjects, pipe.vae_scale_factor)
        space[:, -1:] = (space[:, -1:] * asked.subject_scale).clamp(max=1)
        told = {**pipe.told(subjects, space.shape[-2:], asked.subject_scale), "space": space}
        return given, with_subjects(source, mask, depth, subjects), size, told


class ToffeeTextBlock(_Block):
    """Hidden states of prompts and negative prompts."""

    needs = ("unet", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    takes = ("prompt", "negative_prompt", "guidance_scale", "prompt_embeds", "negative_prompt_embeds",
             "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    finds = ("text",)

    def found(self, pipe: ToffeePipeline, asked: Any) -> tuple[Any, ...]:
        told = {name: getattr(asked, name) for name in self.takes if name != "guidance_scale"}
        return (_Text(*pipe.encode_prompt(**told, do_classifier_free_guidance=pipe.do_classifier_free_guidance)),)


class ToffeeDenoiseBlock(_Block):
    """Noise to latents of the whole picture, under the text and what else the denoiser is told."""

    needs = ("vae", "unet", "scheduler")
    takes = ("num_inference_steps", "guidance_scale", "guidance_rescale", "num_images_per_prompt", "eta", "generator",
             "latents", "callback_on_step_end", "callback_on_step_end_tensor_inputs")
    reads = ("size", "told", "text")
    finds = ("latents",)

    def found(self, pipe: ToffeePipeline, asked: Any) -> tuple[Any, ...]:
        each, dtype, (height, width) = asked.num_images_per_prompt, pipe.unet.dtype, asked.size
        text = _Text(*(x if x is None else x.repeat_interleave(each, 0) for x in asked.text))  # type: ignore[arg-type]
        told = {name: x.to(dtype).repeat_interleave(each, 0) for name, x in asked.told.items()}
        latents = pipe.prepare_latents(len(text.wanted), height, width, dtype, pipe._execution_device, asked.generator,
                                       asked.latents)
        inputs = pipe._callback_inputs(asked.callback_on_step_end, asked.callback_on_step_end_tensor_inputs)
        return (pipe._denoise(latents, text, told, asked.num_inference_steps, asked.eta, asked.generator, asked.size,
                              asked.callback_on_step_end, inputs),)


class ToffeeDecodeBlock(_Block):
    """Latents to pictures with a part of the subjects' own pixels; an edited one's outside the mask are its own."""

    needs = ("vae", "unet")
    takes = ("num_images_per_prompt", "subject_scale", "surface", "output_type")
    reads = ("latents", "given", "own")
    finds = ("images",)

    def found(self, pipe: ToffeePipeline, asked: Any) -> tuple[Any, ...]:
        if asked.output_type == "latent":
            return (asked.latents,)
        images = pipe._pictures(asked.latents, asked.own, asked.surface * min(1.0, asked.subject_scale), asked.given,
                                asked.num_images_per_prompt)
        return (pipe.image_processor.postprocess(images, output_type=asked.output_type),)


class ToffeeBlocks(SequentialPipelineBlocks):
    """Draws given subjects as a prompt says, in a new picture or inside a mask of a picture."""

    model_name = "toffee"
    block_classes = [ToffeeInputBlock, ToffeeTextBlock, ToffeeDenoiseBlock, ToffeeDecodeBlock]
    block_names = ["input", "text", "denoise", "decode"]

    @property
    def description(self) -> str:
        return inspect.getdoc(type(self)) or ""

    @property
    def outputs(self) -> list[OutputParam]:
        return [OutputParam("images", description="as ToffeePipeline gives them")]
