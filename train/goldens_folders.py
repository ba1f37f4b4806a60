"""Golden pictures of folders whose files disagree: model_index.json names one class of scheduler, scheduler_config.json another.

    python train/goldens_folders.py       writes pipeline/testdata/folders/*.png and cases.json

diffusers takes the class of model_index.json and the values of scheduler_config.json. Each case is the tiny model sd1 of
goldens.py with those two files changed.
"""

import json
import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "..", "pipeline", "testdata", "models", "sd1")
OUT = os.path.join(HERE, "..", "pipeline", "testdata", "folders")

SD = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)

# name, class in model_index.json, scheduler_config.json
CASES = [
    ("euler-over-pndm", "EulerDiscreteScheduler", dict(_class_name="PNDMScheduler", skip_prk_steps=True, **SD)),
    ("dpm-over-ddim", "DPMSolverMultistepScheduler", dict(_class_name="DDIMScheduler", timestep_spacing="trailing", prediction_type="epsilon", **SD)),
    ("ddim-over-euler-a", "DDIMScheduler", dict(_class_name="EulerAncestralDiscreteScheduler", timestep_spacing="linspace", prediction_type="epsilon",
                                                _use_default_values=["timestep_spacing", "prediction_type"], **SD)),
]


def main():
    os.makedirs(OUT, exist_ok=True)
    cases = []
    for name, cls, config in CASES:
        with tempfile.TemporaryDirectory() as tmp:
            path = os.path.join(tmp, "model")
            shutil.copytree(MODEL, path)
            index_path = os.path.join(path, "model_index.json")
            with open(index_path) as f:
                index = json.load(f)
            index["scheduler"] = ["diffusers", cls]
            with open(index_path, "w") as f:
                json.dump(index, f)
            with open(os.path.join(path, "scheduler", "scheduler_config.json"), "w") as f:
                json.dump(config, f)
            pipe = StableDiffusionPipeline.from_pretrained(path, torch_dtype=torch.float32)
        assert type(pipe.scheduler).__name__ == cls, type(pipe.scheduler)
        pipe.set_progress_bar_config(disable=True)
        image = pipe("a red apple", num_inference_steps=6, guidance_scale=7.5, width=64, height=64, generator=torch.Generator("cpu").manual_seed(7), output_type="np").images[0]
        Image.fromarray((image * 255).round().astype(np.uint8)).save(os.path.join(OUT, name + ".png"))
        cases.append(dict(name=name, index=cls, config=config, timesteps=[float(t) for t in pipe.scheduler.timesteps]))
        print(name, cls, cases[-1]["timesteps"])
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)


if __name__ == "__main__":
    main()
