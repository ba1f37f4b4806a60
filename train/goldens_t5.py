"""Golden files of the T5 text encoder: t5/testdata/tokenizer (a small vocabulary, trained here), tokens.json.gz and
hidden.safetensors.

    python train/goldens_t5.py [STRINGS]

Expected ids come from transformers' T5Tokenizer, loaded as the pipelines load it, from tokenizer.json and from spiece.model.
STRINGS, a number, has a vocabulary trained with the map of characters of T5 itself, which is large, and writes so many fuzzed
strings and every code point for a thorough comparison (build/t5) in place of the golden files.
"""
import gzip
import json
import os
import random
import shutil
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import sentencepiece
import torch
from transformers import AutoTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from goldens_nets import ROOT, Golden, make_up
from goldens_qwen import LINES

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
OUT = os.path.join(ROOT, "t5", "testdata")
# A map of characters of every kind: one to many, many to one, to nothing, longer than the shortest that matches.
RULES = {"Ａ": "A", "ﬁ": "fi", "½": "1⁄2", "e\u0301": "é", "a\u0308": "ä", "\u00ad": "", "\n": " ", "\t": " ", "\r": " ", "\u3000": " ", "\u00a0": " ", "か\u3099": "が", "²": "2",
         "…": "...", "\u212b": "\u00c5", "①": "1", "\u200b": " ", "\ufeff": "", "’": "'", "\u1112\u1161": "하"}


def train_tokenizer(folder, size, rules):
    """A unigram vocabulary in the form of T5's files, smaller."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    text = os.path.join(folder, "text")
    with open(text, "w", encoding="utf-8") as f:
        for line in LINES * 3:
            f.write(line + "\n")
        for words in ("a red apple on a blue table flat icon", "the yellow house and the purple tree", "a white cat with green eyes sat on the mat"):
            f.write(words + "\n" + words.title() + "\n")
    if rules:
        with open(text + ".tsv", "w", encoding="utf-8") as f:
            for a, b in sorted(RULES.items()):
                f.write(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n")
    norm = dict(normalization_rule_tsv=text + ".tsv") if rules else dict(normalization_rule_name="nmt_nfkc")
    sentencepiece.SentencePieceTrainer.train(input=text, model_prefix=os.path.join(folder, "spiece"), vocab_size=size, model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                                             pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>", hard_vocab_limit=False, num_threads=1, minloglevel=2, **norm)
    for f in os.listdir(folder):
        if f != "spiece.model":
            os.remove(os.path.join(folder, f))
    t = T5Tokenizer.from_pretrained(folder)
    t.save_pretrained(folder)
    return t


rnd = random.Random(5)
PIECES = [" ", "  ", "\n", "\r\n", "\t", "\u3000", "\u2028", "\x85", "▁", "▁▁", "a", "apple", "Word", "é", "e\u0301", "e\u0301\u0300", "a\u0308", "ﬁ", "½", "Ａ", "²", "…", "か\u3099", "\u00ad", "\u200b",
          "\u1112\u1161\u11ab", "!", "...", "(", "€", "👩🏽‍🚀", "🇩🇪", "中文", "العربية", "\u0300", "</s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_99>", "<extra_id_100>", "</s", "_", "-", "'",
          "\u00a0", "\u200d", "\x00", "\x1c", "ß", "İ", "\ufeff", "K", "ǅ", "Å", "①", "क्ष", "น้ำ", "\u0600", "x\u0600", "12", "don't"]


def fuzzed(n):
    for _ in range(n):
        kind = rnd.random()
        if kind < 0.5:
            yield "".join(rnd.choice(PIECES) for _ in range(rnd.randint(1, 14)))
        elif kind < 0.75:
            line = rnd.choice(LINES)
            a, b = sorted(rnd.randint(0, len(line)) for _ in range(2))
            yield line[a:b] + rnd.choice(PIECES) + line[b:]
        else:
            yield "".join(chr(rnd.choice(CODE_POINTS)) if rnd.random() < 0.3 else rnd.choice(PIECES) for _ in range(rnd.randint(1, 10)))


def thorough(n):
    folder = os.path.join(ROOT, "build", "t5")
    tokenizer = train_tokenizer(folder, 900, rules=False)
    texts = list(fuzzed(n))
    for c in CODE_POINTS:
        texts.append("a" + chr(c) + "b " + chr(c) + chr(c) + "1\n" + chr(c) + "'" + chr(c))
    with gzip.open(os.path.join(folder, "tokens.json.gz"), "wt", encoding="utf-8") as f:
        for text in texts:
            f.write(json.dumps([text, tokenizer(text).input_ids], separators=(",", ":")) + "\n")


def tokens(tokenizer):
    with gzip.GzipFile(os.path.join(OUT, "tokens.json.gz"), "wb", mtime=0) as f:
        for text in LINES + PIECES + list(fuzzed(400)):
            f.write((json.dumps([text, tokenizer(text).input_ids], separators=(",", ":")) + "\n").encode())


CONFIGS = {
    "gated": dict(vocab_size=50, d_model=24, d_kv=8, d_ff=40, num_layers=3, num_heads=4, feed_forward_proj="gated-gelu"),
    "other": dict(vocab_size=40, d_model=16, d_kv=12, d_ff=24, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu", relative_attention_num_buckets=16,
                  relative_attention_max_distance=20, layer_norm_epsilon=1e-5),
}


def hidden(golden):
    for i, (name, config) in enumerate(CONFIGS.items()):
        model = make_up(T5EncoderModel(T5Config(**config)))
        golden.network(name, model, model.config.to_dict())
        for call, total in [("short", 7), ("long", 150)]:
            ids = torch.randint(config["vocab_size"], (1, total), generator=torch.Generator().manual_seed(80 + i))
            with torch.no_grad():
                golden.value(name, call, "ids", ids)
                golden.value(name, call, "states", model(input_ids=ids).last_hidden_state)
                if call == "long":
                    bias = model.encoder.block[0].layer[0].SelfAttention.compute_bias(total, total)[0]  # [heads, queries, keys]
                    golden.value(name, call, "first_query", bias[:, 0])
                    golden.value(name, call, "first_key", bias[:, :, 0])


def main():
    if len(sys.argv) > 1:
        return thorough(int(sys.argv[1]))
    folder = os.path.join(OUT, "tokenizer")
    tokenizer = train_tokenizer(folder, 500, rules=True)
    whole = AutoTokenizer.from_pretrained(folder)
    for text in LINES + PIECES:
        assert tokenizer(text).input_ids == whole(text).input_ids, text
    tokens(whole)
    golden = Golden()
    hidden(golden)
    golden.save("t5/testdata/hidden.safetensors")


if __name__ == "__main__":
    main()
