"""Run every stage once, tiny, in a temporary folder: does the whole chain still work? Under three minutes on
one core.

    python -m train.smoke
"""

import json
import os
import tempfile
import time
from pathlib import Path


def run(work):
    # The stages read the folder from the environment, so it is set before they are imported.
    os.environ["DARKROOM_TRAIN_WORK"] = str(work)
    import numpy as np
    import torch
    from diffusers import StableDiffusionPipeline
    from PIL import Image

    from . import autoencoder, data, denoiser, distill, evaluate, export, judge, sprites, telling, tokenizer, warm_start
    from .runtime import load

    sprites.main(["--limit", "90"])
    tokenizer.main(["--captions", "500", "--size", "800"])
    data.main(["scenes", "--pools", "1", "--size", "64"])
    data.main(["collages", "--pools", "1", "--size", "64"])
    autoencoder.main(["--minutes", "0.05", "--batch", "2"])
    data.main(["latents"])
    telling.main(["--minutes", "0.02", "--batch", "8"])
    tiny = ["--batch", "8", "--micro", "4", "--sheet-steps", "1"]
    denoiser.main(["--minutes", "0.05", *tiny])
    first = load(work / denoiser.CHECKPOINT)["step"]
    denoiser.main(["--minutes", "0.05", "--processes", "2", *tiny])
    second = load(work / denoiser.CHECKPOINT)["step"]
    if not 0 < first < second:
        raise AssertionError(f"the denoiser did not resume: step {first}, then {second}")
    data.main(["drafts", "--pools", "1"])
    autoencoder.main(["--minutes", "0.05", "--batch", "2", "--decoder-only"])
    judge.main(["--minutes", "0.05", "--batch", "4", "--export", str(work / "judge")])
    distill.main(["--minutes", "0.05", "--batch", "2", "--export", str(work / "lora.safetensors")])
    export.main([str(work / "model")])

    evaluate.main(["prompts", str(work / "evaluation"), "--count", "1", "--objects", "4"])
    # Darkroom draws the pictures; here copies of scenes stand for them.
    wanted = (work / "evaluation" / "tasks.jsonl").read_text().splitlines()
    for name in evaluate.SETTINGS:
        (work / "evaluation" / name).mkdir()
        for k, _ in enumerate(evaluate.of(name, [json.loads(line) for line in wanted])):
            Image.fromarray(data.pictures(0)[k % 64]).save(work / "evaluation" / name / f"{k + 1:04}.png")
    evaluate.main(["score", str(work / "evaluation"), "--dry", "--model", str(work / "model")])
    evaluate.main(["memory", str(work / "evaluation")])

    pipeline = StableDiffusionPipeline.from_pretrained(work / "model", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    picture = np.asarray(pipeline("a red apple", num_inference_steps=2, height=256, width=256).images[0])
    if picture.shape != (256, 256, 3) or picture.std() == 0:
        raise AssertionError(f"the exported model drew nothing: {picture.shape}, spread {picture.std()}")

    # An exported model can be trained further.
    for name in ("autoencoder.pt", "denoiser.pt"):
        (work / name).unlink()
    warm_start.main([str(work / "model")])
    telling.main(["--minutes", "0.02", "--batch", "8"])
    denoiser.main(["--minutes", "0.02", *tiny])


def main():
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))
    print(f"smoke: all stages ran in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
