"""Writes checkpoint/testdata: files of the safetensors library, and folders as diffusers and transformers save them.

    python train/goldens_checkpoint.py
"""

import hashlib
import json
import pathlib
import shutil

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

OUT = pathlib.Path(__file__).resolve().parent.parent / "checkpoint" / "testdata"


def all_types():
    """One tensor of each element type, with the values that float32 gives where it is a floating-point type."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5) * 10
    tensors = {
        "f32": x, "f16": x.half(), "bf16": x.bfloat16(), "f64": x.double() / 3,
        "f16.extremes": torch.tensor([65504.0, -65504.0, 6e-8, 6.1e-5, float("inf"), float("-inf"), -0.0]).half(),
        "i64": x.long(), "i32": x.int(), "i16": x.short(), "i8": x.char(), "u8": x.abs().byte(), "bool": x > 0,
        "u16": x.abs().to(torch.uint16), "u32": x.abs().to(torch.uint32), "u64": x.abs().to(torch.uint64),
        "f8_e4m3": x.to(torch.float8_e4m3fn), "f8_e5m2": x.to(torch.float8_e5m2),
        "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "unicode.重み\"\n": torch.ones(1),
    }
    save_file(tensors, OUT / "all_types.safetensors", metadata={"format": "pt", "note": "naïve \"quotes\""})
    expected = {}
    for name, t in tensors.items():
        raw = t.contiguous().flatten().view(torch.uint8).numpy().tobytes() if t.numel() else b""
        expected[name] = {"shape": list(t.shape), "sha256": hashlib.sha256(raw).hexdigest()}
        if t.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            bits = t.float().flatten().view(torch.int32).tolist() if t.numel() else []
            expected[name]["float32"] = [b & 0xFFFFFFFF for b in bits]
    (OUT / "all_types.json").write_text(json.dumps(expected, ensure_ascii=False, indent=0))


def digest(model):
    """The number of tensors, and the SHA-256 of "name shape sha256\n" for each, sorted by name."""
    lines = []
    for name, t in sorted(model.state_dict().items()):
        raw = t.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        lines.append(f"{name} {'×'.join(map(str, t.shape))} {hashlib.sha256(raw).hexdigest()}\n")
    return {"tensors": len(lines), "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}


def folder():
    """A folder with weights in each of the ways that they come: single, sharded, only as a variant, and both."""
    root = OUT / "model"
    torch.manual_seed(1)
    vae = AutoencoderKL(block_out_channels=(2,), norm_num_groups=1, layers_per_block=1, latent_channels=1, in_channels=1,
                        out_channels=1, mid_block_add_attention=False)
    clip = CLIPTextModel(CLIPTextConfig(vocab_size=8, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
                                        num_attention_heads=1, max_position_embeddings=8, bos_token_id=6, eos_token_id=7))
    vae.save_pretrained(root / "vae")
    vae.save_pretrained(root / "sharded", max_shard_size=1000)
    clip.save_pretrained(root / "text_encoder")
    clip.save_pretrained(root / "clip_sharded", max_shard_size=300)
    expected = {"vae": digest(vae), "sharded": digest(vae), "text_encoder": digest(clip), "clip_sharded": digest(clip)}
    vae, clip = vae.half(), clip.half()
    vae.save_pretrained(root / "fp16_only", variant="fp16")
    vae.save_pretrained(root / "fp16_sharded", variant="fp16", max_shard_size=700)
    clip.save_pretrained(root / "clip_fp16_sharded", variant="fp16", max_shard_size=150)
    for part in ("fp16_only", "fp16_sharded"):
        expected[part] = digest(vae)
    expected["clip_fp16_sharded"] = digest(clip)
    vae.save_pretrained(root / "both", variant="fp16")
    vae.float().save_pretrained(root / "both")
    expected["both"] = digest(vae)
    (root / "model_index.json").write_text(json.dumps({
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0", "requires_safety_checker": False,
        "safety_checker": [None, None], "text_encoder": ["transformers", "CLIPTextModel"],
        "vae": ["diffusers", "AutoencoderKL"]}, indent=1))
    (root / "expected.json").write_text(json.dumps(expected, indent=0))


def main():
    shutil.rmtree(OUT / "model", ignore_errors=True)
    OUT.mkdir(parents=True, exist_ok=True)
    all_types()
    folder()
    for p in sorted(OUT.rglob("*")):
        if p.is_file():
            print(p.stat().st_size, p.relative_to(OUT))


if __name__ == "__main__":
    main()
