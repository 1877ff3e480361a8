"""A pipeline of ours as a repository that loads without this package: weights, configurations and verbatim code.

`save_pretrained` of diffusers copies no code and writes an index that only this package could open. So the code of each
class of ours is copied beside what it loads, under a name that no other repository has, and the index names the copies.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toffee_hf.publishing.repository import RepositoryFile, files_of, new_repository

OURS = "Toffee"                       # how names of our classes begin
INDEX, MODULAR_INDEX, BLOCKS_CONFIG = "model_index.json", "modular_model_index.json", "modular_config.json"
LOCAL_ONLY = ("_name_or_path", "is_local", "local_files_only")        # of this machine, and written by libraries
PIPELINES = Path(__file__).parents[1] / "pipelines"
BLOCKS = {"ToffeePipeline": ("toffee_blocks", "ToffeeBlocks", "ToffeeComponent")}   # of the classes that have some


def export_pipeline(pipeline: Any, folder: Path, card: str, licence: str, *, pictures: Mapping[str, Any] | None = None,
                    half: bool = False, repository: str | None = None, replace: bool = False
                    ) -> list[RepositoryFile]:
    """Write `pipeline` to `folder`, which must not be there or be empty; returns its files.

    card: README.md; licence: text of LICENSE; pictures: PIL pictures by file name, for the card. Weights that float16
    holds without loss are written as float16, with `half` all of them; they load as float32 unless asked otherwise.
    repository: ORG/NAME under which it will be on a Hub: modular blocks load from there only if it is known here; from
    a folder they always do. replace: a repository of ours that is there makes room. Raises InputError for an occupied
    folder, DiskFull.
    """
    with new_repository(folder, replace) as part:
        _write_weights(pipeline, part, half)
        _write_classic(pipeline, part)
        if type(pipeline).__name__ in BLOCKS:
            _write_modular(pipeline, part, repository)
        (part / "README.md").write_text(card, encoding="utf-8")
        (part / "LICENSE").write_text(licence, encoding="utf-8")
        for name, picture in (pictures or {}).items():
            (part / name).parent.mkdir(exist_ok=True)
            picture.save(part / name)
    return files_of(folder)


def _write_weights(pipeline: Any, folder: Path, half: bool) -> None:
    """Every component as its own library saves it, without traces of where it came from."""
    for part in pipeline.components.values():
        if hasattr(part, "backend_tokenizer"):        # which keeps the padding of its last call
            part.backend_tokenizer.no_padding()
            part.backend_tokenizer.no_truncation()
    pipeline.save_pretrained(folder, safe_serialization=True)
    for path in sorted(folder.rglob("*.safetensors")):
        _narrow(path, half)
    for path in sorted(folder.rglob("*.json")):
        if path.name != "tokenizer.json":
            _edit_json(path, _without_traces)


def _narrow(path: Path, half: bool) -> None:
    """Rewrite float32 tensors as float16 if all of the file's fit without loss, or `half`."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    narrow = {name: x.half() if x.dtype == torch.float32 else x for name, x in tensors.items()}
    if half or all(torch.equal(x.to(tensors[name].dtype), tensors[name]) for name, x in narrow.items()):
        path.unlink()
        save_file(narrow, path, metadata)


def _without_traces(told: Any) -> Any:
    if isinstance(told, dict):
        return {key: _without_traces(value) for key, value in told.items() if key not in LOCAL_ONLY}
    return told


def _edit_json(path: Path, edit: Callable[[Any], Any]) -> None:
    told = edit(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_classic(pipeline: Any, folder: Path) -> None:
    """Code of ours beside what it loads, and an index of it."""
    index = {"_class_name": [_copy_code(type(pipeline), folder), type(pipeline).__name__]}
    for name in _own_components(pipeline):
        model = type(getattr(pipeline, name))
        index[name] = [_copy_code(model, folder / name), model.__name__]
    _edit_json(folder / INDEX, lambda told: told | index)


def _own_components(pipeline: Any) -> list[str]:
    return [name for name, part in pipeline.components.items() if type(part).__name__.startswith(OURS)]


def _copy_code(of: type, folder: Path) -> str:
    """Copy the file of a class; returns its name as a module."""
    source = Path(inspect.getfile(of))
    shutil.copyfile(source, folder / source.name)
    return source.stem


def _write_modular(pipeline: Any, folder: Path, repository: str | None) -> None:
    """The second form over the same weights: blocks, and an index that says where each component is."""
    from diffusers import __version__

    module, blocks, component = BLOCKS[type(pipeline).__name__]
    shutil.copyfile(PIPELINES / f"{module}.py", folder / f"{module}.py")
    own = _own_components(pipeline)
    index: dict[str, Any] = {"_class_name": "ModularPipeline", "_blocks_class_name": blocks}
    for name, part in pipeline.components.items():
        if part is not None:
            library = type(part).__module__.partition(".")[0]
            of = [module, component] if name in own else [library, type(part).__name__]
            index[name] = [*of, {"type_hint": of, "pretrained_model_name_or_path": repository, "subfolder": name,
                                 "variant": None, "revision": None}]
    config = {"_class_name": blocks, "auto_map": {"ModularPipelineBlocks": f"{module}.{blocks}"}}
    for name, told in ((MODULAR_INDEX, index), (BLOCKS_CONFIG, config)):
        told |= {"_diffusers_version": __version__}
        (folder / name).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
