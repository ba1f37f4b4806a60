"""Writes clip/openai/merges.gz, OpenAI's vocabulary of CLIP, and clip/testdata/openai.json, what transformers makes of it.

    python train/openai_vocabulary.py OPEN_CLIP_WHEEL

The wheel is open_clip_torch's, which carries the file unchanged.
"""

import gzip
import json
import pathlib
import sys
import tempfile
import zipfile

from transformers import CLIPTokenizer

CLIP = pathlib.Path(__file__).resolve().parent.parent / "clip"
MERGES = 49152 - 256 - 2  # CLIP uses so many of the file's


def byte_symbols():
    """GPT-2's characters for bytes, in the order in which CLIP numbers them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    symbols = [chr(b) for b in plain]
    return symbols + [chr(256 + i) for i in range(256 - len(plain))]


def main():
    with zipfile.ZipFile(sys.argv[1]) as z:
        text = gzip.decompress(z.read("open_clip/bpe_simple_vocab_16e6.txt.gz")).decode()
    lines = text.split("\n")[1 : 1 + MERGES]
    (CLIP / "openai").mkdir(exist_ok=True)
    (CLIP / "openai" / "merges.gz").write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", 9, mtime=0))

    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols] + [line.replace(" ", "") for line in lines] + ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as d:
        folder = pathlib.Path(d)
        (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
        special = {k: {"__type": "AddedToken", "content": v, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
                   for k, v in {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}.items()}
        golden = []
        for pad in ("<|endoftext|>", "!"):
            (folder / "tokenizer_config.json").write_text(json.dumps(
                {**special, "pad_token": pad, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}))
            t = CLIPTokenizer.from_pretrained(folder)
            prompts = ["a photo of a cat", "An Astronaut's horse, don't they've (masterpiece:1.2), 8k!!! wow!", "", "Café crème, naïve façade — “quotes” № ™",
                       "春眠不觉晓，处处闻啼鸟", "👨‍👩‍👧 🇩🇪 👍🏿", "supercalifragilisticexpialidocious antidisestablishmentarianism", "<|endoftext|> <|startoftext|> x<|ENDOFTEXT|>y",
                       "score_9, score_8_up, 1girl, <lora:x:0.8>", " \t\n !  ! ", "Съешь же ещё этих мягких французских булок", "a" * 300, "1234567890 3.14 ½ Ⅻ"]
            golden += [{"pad": pad, "text": p, "ids": t(p, add_special_tokens=False)["input_ids"],
                        "padded": t(p, padding="max_length", truncation=True)["input_ids"]} for p in prompts]
    (CLIP / "testdata" / "openai.json").write_text(json.dumps(golden, ensure_ascii=False))


if __name__ == "__main__":
    main()
