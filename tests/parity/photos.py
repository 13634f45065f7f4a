"""Makes the fixtures for pictures: what Pillow and transformers' processors make of real photos.

    python tests/parity/photos.py MATERIAL      MATERIAL: the folder of test material

Writes `jpeg/<name>.jpg` and `.png`: a drawn picture in every layout a JPEG has, and its pixels as
Pillow decodes them. Writes `photos.json`: for each photo of the material the SHA-256 of its pixels
as loaded, and for each processor that of its pixels before normalising, in the order the model
receives them. Sums, not pixels: the photos are not ours to ship.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from make import HERE, draw
from PIL import Image
from transformers import (
    BlipImageProcessor,
    CLIPImageProcessor,
    Idefics3ImageProcessor,
    LlavaImageProcessor,
    LlavaNextImageProcessor,
    LlavaOnevisionImageProcessor,
    MllamaImageProcessor,
    Qwen2VLImageProcessor,
    Siglip2ImageProcessor,
    SiglipImageProcessor,
    SmolVLMImageProcessor,
)
from transformers.image_utils import load_image

PHOTOS = ["photos", "processors/onnxruntime-extensions", "exif"]
# One photo in eight orientations: loading it is the question, processing it is not.
TURNED = "exif"
# Laid over white by us, without its transparency by the reference: meant to differ.
TRANSPARENT = "pineapple.jpg"

CLIP_336 = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
MLLAMA_560 = {"size": {"height": 560, "width": 560}, "max_image_tiles": 4}
TILES = {"max_image_size": {"longest_edge": 364}, "resample": 1}
PROCESSORS = {
    "clip-vit-large-patch14": (CLIPImageProcessor, {}),
    "llava-1.5-7b": (CLIPImageProcessor, CLIP_336),
    "llava-pad": (LlavaImageProcessor, {"do_pad": True, **CLIP_336}),
    "siglip-so400m-patch14-384": (SiglipImageProcessor, {"size": {"height": 384, "width": 384}}),
    # SigLIP 2 of one resolution, and of any aspect ratio.
    "siglip2-so400m-patch16-384": (SiglipImageProcessor,
                                   {"size": {"height": 384, "width": 384}, "resample": 2}),
    "siglip2-base-patch16-naflex": (Siglip2ImageProcessor, {}),
    "idefics3-8b-llama3": (Idefics3ImageProcessor, {"size": {"longest_edge": 1456}, **TILES}),
    "idefics3-whole": (Idefics3ImageProcessor,
                       {"size": {"longest_edge": 364}, "do_image_splitting": False, **TILES}),
    "llama-3.2-11b-vision": (MllamaImageProcessor, MLLAMA_560),
    "llava-v1.6-mistral-7b": (LlavaNextImageProcessor, CLIP_336),
    "llava-onevision-qwen2-0.5b": (LlavaOnevisionImageProcessor, {}),
    "blip2-opt-2.7b": (BlipImageProcessor, {"size": {"height": 224, "width": 224}}),
    "qwen2-vl-2b": (Qwen2VLImageProcessor, {}),
    # Larger patches, and merged two by two like the others.
    "qwen3-vl-4b": (Qwen2VLImageProcessor, {"patch_size": 16, "image_mean": [0.5, 0.5, 0.5],
                                            "image_std": [0.5, 0.5, 0.5]}),
}
# Those whose settings are among the material.
PUBLISHED = {
    "SmolVLM2-256M-Video-Instruct/preprocessor_config.as-found-1024.json": SmolVLMImageProcessor,
    "SmolVLM2-500M-Video-Instruct/preprocessor_config.json": SmolVLMImageProcessor,
    "siglip-so400m-patch14-384/preprocessor_config.json": SiglipImageProcessor,
    "Qwen2.5-VL-7B-Instruct/preprocessor_config.json": Qwen2VLImageProcessor,
}


def layouts():
    """Name, size, mode and how to save: every way the pixels can lie in a JPEG."""
    yield "420", (61, 45), "RGB", {"subsampling": "4:2:0"}
    yield "422", (61, 45), "RGB", {"subsampling": "4:2:2"}
    yield "444", (61, 45), "RGB", {"subsampling": "4:4:4"}
    yield "420-progressive", (61, 45), "RGB", {"subsampling": "4:2:0", "progressive": True}
    yield "420-restarts", (61, 45), "RGB", {"subsampling": "4:2:0", "restart_marker_blocks": 3}
    yield "420-coarse", (64, 48), "RGB", {"subsampling": "4:2:0", "quality": 5}
    yield "420-thin", (3, 33), "RGB", {"subsampling": "4:2:0"}
    yield "422-dot", (1, 1), "RGB", {"subsampling": "4:2:2"}
    yield "rgb", (61, 45), "RGB", {"keep_rgb": True}
    yield "gray", (61, 45), "L", {}
    yield "gray-progressive", (61, 45), "L", {"progressive": True}
    yield "cmyk", (61, 45), "CMYK", {}


def write_layouts(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, size, mode, options in layouts():
        picture = draw(size, seed=1).convert(mode)
        picture.save(folder / f"{name}.jpg", **{"quality": 90} | options)
        load_image(str(folder / f"{name}.jpg")).save(folder / f"{name}.png", optimize=True)


def processors(material):
    """Name -> (processor, its settings as in `preprocessor_config.json`)."""
    built = {name: kind(**settings) for name, (kind, settings) in PROCESSORS.items()}
    for file, kind in PUBLISHED.items():
        settings = json.loads((material / "processors/vlm-configs" / file).read_text())
        built[file.split("/")[0]] = kind(**settings)
    return {name: (processor, processor.to_dict()) for name, processor in built.items()}


def pixels(processor, picture):
    """(N, S, S, C) as uint8: the tiles before rescaling and normalising, whole even if patched."""
    given = processor(picture, do_rescale=False, do_normalize=False, return_tensors="np")
    values = given["pixel_values"]
    if "spatial_shapes" in given:
        (rows, cols), p = given["spatial_shapes"][0], processor.patch_size
        patches = values[0, : rows * cols].reshape(rows, cols, p, p, 3)
        values = patches.transpose(0, 2, 1, 3, 4).reshape(1, rows * p, cols * p, 3)
        values = values.transpose(0, 3, 1, 2)
    if "image_grid_thw" in given:
        values = whole(values, given["image_grid_thw"][0], processor)
    values = values.reshape(-1, *values.shape[-3:]).transpose(0, 2, 3, 1)
    if "aspect_ratio_mask" in given:  # empty tiles fill up each picture
        values = values[given["aspect_ratio_mask"].reshape(-1) == 1]
    assert (values == values.astype(np.uint8)).all()
    return np.ascontiguousarray(values.astype(np.uint8))


def whole(patches, grid, processor):
    """(1, C, H, W): the picture that the patches of its first frame make."""
    _, rows, cols = grid
    merge, side = processor.merge_size, processor.patch_size
    patches = patches.reshape(
        rows // merge, cols // merge, merge, merge, 3, processor.temporal_patch_size, side, side)
    patches = patches[:, :, :, :, :, 0].transpose(4, 0, 2, 5, 1, 3, 6)
    return patches.reshape(1, 3, rows * side, cols * side)


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


def photos(material):
    for folder in PHOTOS:
        for path in sorted((material / folder).rglob("*")):
            if path.suffix in {".jpg", ".png", ".webp"} and path.name != TRANSPARENT:
                yield path


def main(material):
    write_layouts(HERE / "jpeg")
    built = processors(material)
    rows = {}
    for path in photos(material):
        picture = load_image(str(path))
        row = {"loaded": digest(np.asarray(picture))}
        name = path.relative_to(material).as_posix()
        if not name.startswith(TURNED):
            row |= {key: digest(pixels(made, picture)) for key, (made, _) in built.items()}
        rows[name] = row
        print(path.name, flush=True)
    found = {"processors": {name: settings for name, (_, settings) in built.items()},
             "photos": rows}
    text = json.dumps(found, ensure_ascii=False, indent=1)
    (HERE / "photos.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
