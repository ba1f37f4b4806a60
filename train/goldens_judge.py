"""Makes compare/judge/testdata: a tiny random CLIP model, a tiny classifier, and what torch computes with them.

Run: python train/goldens_judge.py        (needs torch, transformers, safetensors, Pillow)
"""

import json
import pathlib
import shutil

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

ROOT = pathlib.Path(__file__).parent.parent
OUT = ROOT / "compare" / "judge" / "testdata"
TOKENIZER = ROOT / "pipeline" / "testdata" / "models" / "sd1" / "tokenizer"
PROMPTS = ["a red apple", "two blue tables, and more words than the window of this little model has room for in any case", ""]


def picture(width, height):
    y, x = np.mgrid[0:height, 0:width].astype(float)
    p = np.stack([255 * x / width, 255 * y / height, 128 + 120 * np.sin(x / 5)], 2)
    p[(x - width / 2) ** 2 + (y - height / 3) ** 2 < (height / 5) ** 2] = (250, 30, 20)
    return Image.fromarray(p.clip(0, 255).round().astype(np.uint8))


def clip(folder):
    """A CLIP model of two layers; act and shapes are unlike the defaults, so that config.json is read."""
    folder.mkdir(parents=True)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        if (TOKENIZER / name).exists():
            shutil.copy(TOKENIZER / name, folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    torch.manual_seed(1)
    config = CLIPConfig(
        projection_dim=12,
        vision_config=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, image_size=28, patch_size=7,
                           hidden_act="gelu", projection_dim=12),
        text_config=dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=len(tokenizer),
                         max_position_embeddings=20, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
                         pad_token_id=tokenizer.eos_token_id, projection_dim=12))
    model = CLIPModel(config).eval()
    with torch.no_grad():  # random models are all but deaf: make their weights matter
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0, 1.2 / p.shape[-1] ** 0.5) if p.dim() == 2 else p.normal_(0, 0.15)
            else:
                p.add_(torch.randn_like(p) * 0.1)
    model.save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor.save_pretrained(folder)
    head = {"layers.0.weight": torch.randn(5, 12), "layers.0.bias": torch.randn(5), "layers.3.weight": torch.randn(1, 5), "layers.3.bias": torch.randn(1)}
    save_file(head, folder / "head.safetensors")

    cases = []
    for name, (width, height) in {"wide": (61, 40), "exact": (28, 28), "tall": (20, 33)}.items():
        p = picture(width, height)
        p.save(OUT / f"{name}.png", optimize=True)
        pixels = processor(images=p, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            image = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)[0]
            unit = image / image.norm()
            score = F.linear(F.linear(unit, head["layers.0.weight"], head["layers.0.bias"]), head["layers.3.weight"], head["layers.3.bias"])
        cases.append({"picture": name, "pixels": pixels.flatten().tolist() if name != "exact" else None,
                      "features": image.tolist(), "preference": score.item()})
    texts = []
    for prompt in PROMPTS:
        tokens = tokenizer(prompt, padding="max_length", max_length=20, truncation=True, return_tensors="pt")
        with torch.no_grad():
            text = model.text_projection(model.text_model(**tokens).pooler_output)[0]
            text = text / text.norm()
        texts.append({"prompt": prompt, "agreement": [100 * float(np.dot(np.array(c["features"]) / np.linalg.norm(c["features"]), text.numpy())) for c in cases]})
    return {"pictures": cases, "texts": texts}


def classifier(folder):
    """The layout that train/judge.py exports."""
    folder.mkdir(parents=True)
    torch.manual_seed(2)
    layers = [(3, 6, 5, 2), (6, 8, 3, 1), (8, 10, 3, 2)]
    heads = {"noun": ["apple", "red apple", "blue table", "cat"], "background": ["white", "black"]}
    weights = {}
    for k, (i, o, size, _) in enumerate(layers):
        weights[f"layers.{k}.weight"], weights[f"layers.{k}.bias"] = torch.randn(o, i, size, size) / (i * size * size) ** 0.5, torch.randn(o) * 0.1
    for name, labels in heads.items():
        weights[f"heads.{name}.weight"], weights[f"heads.{name}.bias"] = torch.randn(len(labels), 20), torch.randn(len(labels))
    save_file(weights, folder / "model.safetensors")
    config = {"input": 16, "range": [-1, 1], "pool": ["mean", "max"], "heads": heads,
              "layers": [dict(zip(("in", "out", "kernel", "stride", "padding"), (*layer, layer[2] // 2))) for layer in layers]}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    p = picture(48, 48)
    p.save(OUT / "square.png", optimize=True)
    x = torch.tensor(np.asarray(p).astype(np.float32).transpose(2, 0, 1)[None])
    x = F.avg_pool2d(x, 3) / 255 * 2 - 1
    for k, (_, _, size, stride) in enumerate(layers):
        x = F.relu(F.conv2d(x, weights[f"layers.{k}.weight"], weights[f"layers.{k}.bias"], stride, size // 2))
    features = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)[0]
    p = (F.linear(features, weights["heads.noun.weight"], weights["heads.noun.bias"])).softmax(0)
    return {"features": features.tolist(), "nouns": dict(zip(heads["noun"], (100 * p).tolist()))}


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    golden = {"clip": clip(OUT / "clip"), "classifier": classifier(OUT / "classifier")}
    rounded = json.loads(json.dumps(golden), parse_float=lambda s: float(f"{float(s):.8g}"))
    (OUT / "goldens.json").write_text(json.dumps(rounded, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
