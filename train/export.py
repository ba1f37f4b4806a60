"""Write the trained networks as a diffusers folder in half precision.

    python -m train.export ../models/default

Only weights and their configuration are written; README.md, licences and other files there stay.
"""

import argparse
import json
from pathlib import Path

from . import data
from .denoiser import CHECKPOINT, Networks, tokenizer
from .models import build_scheduler
from .runtime import load, log, set_up, work_dir, write_json

INDEX = {
    "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None], "image_encoder": [None, None],
    "requires_safety_checker": False, "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def averaged_networks():
    """(networks with their averaged weights in eval mode, tokenizer, latent scale)."""
    words, saved = tokenizer(), load(work_dir() / CHECKPOINT)
    networks = Networks(words)
    networks.load_state_dict({**saved["model"], **saved["average"]})
    return networks.eval(), words, float(saved["scale"])


def export(folder):
    networks, words, scale = averaged_networks()
    vae = data.autoencoder().cpu()
    vae.register_to_config(scaling_factor=scale)
    for module, name in ((networks.unet, "unet"), (networks.text, "text_encoder"), (vae, "vae")):
        module.half().save_pretrained(folder / name, safe_serialization=True)
    build_scheduler().save_pretrained(folder / "scheduler")
    target = folder / "tokenizer"
    target.mkdir(exist_ok=True)
    for file in (work_dir() / "tokenizer").iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    write_json(INDEX, folder / "model_index.json")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(argv)
    set_up()
    options.folder.mkdir(parents=True, exist_ok=True)
    export(options.folder)
    size = sum(f.stat().st_size for f in options.folder.rglob("*") if f.is_file())
    log(f"export: {options.folder}, {size / 1e6:.1f} MB; scale "
        f"{json.loads((options.folder / 'vae' / 'config.json').read_text())['scaling_factor']:.5f}")


if __name__ == "__main__":
    main()
