"""Golden files of the Qwen3 text encoder: qwen/testdata/tokenizer (a small vocabulary, trained here), tokens.json.gz and
hidden.safetensors.

    python train/goldens_qwen.py [STRINGS]

Expected ids come from transformers' Qwen2Tokenizer, loaded as the pipelines load it, from tokenizer.json and from vocab.json
with merges.txt. STRINGS, a number, writes so many fuzzed strings and every code point to a file for a thorough comparison
(build/qwen-tokens.json.gz) in place of the golden files.
"""
import gzip
import json
import os
import random
import shutil
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM, Qwen3Model
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from goldens_nets import ROOT, Golden, make_up

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
OUT = os.path.join(ROOT, "qwen", "testdata")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ADDED = ["<think>", "</think>", "<tool_call>"]  # not special, but found in the text before words are
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
            "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}")

LINES = """a red apple on a wooden table, studio light, 85mm, highly detailed
an astronaut's horse, don't they've we'll I'm you'd it's THE DOGS' 1990s
Café crème brûlée, naïve façade, Ångström, Łódź, São Tomé; Ελληνικά γράμματα ΟΔΥΣΣΕΥΣ
Съешь же ещё этих мягких французских булок, да выпей чаю; السلام عليكم ١٢٣
नमस्ते दुनिया क्षत्रिय १२३; สวัสดีชาวโลก ๑๒๓ น้ำ; 안녕하세요 \u1112\u1161\u11ab\u1100\u1173\u11af
今日は世界、東京タワー か\u3099 は\u309a。春眠不觉晓，处处闻啼鸟
👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 🇩🇪 ❤️‍🔥 1️⃣ e\u0323\u0302 e\u0302\u0323 ½ Ⅻ ² 𝟘 K Å Ω
#hashtag @user http://example.org/?q=a+b&c=%20 f(x)=[x^2] {a:1} ~/.config \\n \\t
((masterpiece)), (best quality:1.2), [lowres], __init__, snake_case, CamelCase""".split("\n")


def train_tokenizer(folder, size):
    """A byte-level vocabulary in the form of Qwen's files, smaller."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(LINES * 3, trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    model = json.loads(t.to_str())["model"]
    n = len(model["vocab"])
    decoder = {str(n + i): dict(content=text, lstrip=False, normalized=False, rstrip=False, single_word=False, special=text in SPECIAL)
               for i, text in enumerate(SPECIAL + ADDED)}
    config = dict(add_bos_token=False, add_prefix_space=False, added_tokens_decoder=decoder, additional_special_tokens=SPECIAL[1:], bos_token=None,
                  chat_template=TEMPLATE, clean_up_tokenization_spaces=False, eos_token="<|im_end|>", errors="replace", model_max_length=131072,
                  pad_token="<|endoftext|>", split_special_tokens=False, tokenizer_class="Qwen2Tokenizer", unk_token=None)
    write = lambda name, text: open(os.path.join(folder, name), "w", encoding="utf-8").write(text)
    write("vocab.json", json.dumps(model["vocab"], ensure_ascii=False, separators=(",", ":")))
    write("merges.txt", "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model["merges"]))
    write("tokenizer_config.json", json.dumps(config, indent=1))
    whole = json.loads(t.to_str())
    whole["added_tokens"] = [dict(id=int(i), **{k: v for k, v in a.items()}) for i, a in decoder.items()]
    write("tokenizer.json", json.dumps(whole, ensure_ascii=False, separators=(",", ":")))


rnd = random.Random(18)
PIECES = [" ", "  ", "\n", "\r\n", "\t", "\u3000", "\u2028", "'s", "'S", "'ſ", "'ll", "'VE", "'x", "12", "²", "Ⅻ", "a", "Word", "don't", "é", "e\u0301",
          "\u1112\u1161\u11ab", "か\u3099", "!", "...", "(", "€", "👩🏽‍🚀", "中文", "العربية", "\u0300", "<|im_end|>", "<|im_start|>", "<think>", "</think>", "<|endoftext|>",
          "<|im_", "_", "-", "'", "\u00a0", "\u200d", "\x00", "\x1c", "ß", "İ", "\ufeff", "K", "ǅ"]


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


def thorough(n, tokenizer):
    texts = list(fuzzed(n))
    for c in CODE_POINTS:
        texts.append("a" + chr(c) + "b " + chr(c) + chr(c) + "1\n" + chr(c) + "'" + chr(c))
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    with gzip.open(os.path.join(ROOT, "build", "qwen-tokens.json.gz"), "wt", encoding="utf-8") as f:
        for text in texts:
            f.write(json.dumps([text, tokenizer(text).input_ids], separators=(",", ":")) + "\n")


def tokens(tokenizer):
    with gzip.GzipFile(os.path.join(OUT, "tokens.json.gz"), "wb", mtime=0) as f:
        def line(kind, text, ids):
            f.write((json.dumps([kind, text, ids], separators=(",", ":")) + "\n").encode())
        for text in LINES + list(fuzzed(400)):
            line("text", text, tokenizer(text).input_ids)
        for text in ["", "a cat", LINES[2], " two  spaces\n", "<|im_end|> inside"]:
            for thinking in (True, False):
                chat = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=thinking)
                line("thinking" if thinking else "plain", text, tokenizer(chat).input_ids)


CONFIGS = {
    "grouped": dict(vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                    rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"}, rms_norm_eps=1e-6),
    "alone": dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=12,
                  rope_parameters={"rope_theta": 10000.0, "rope_type": "default"}, rms_norm_eps=1e-5, tie_word_embeddings=True),
}


def hidden(golden):
    for i, (name, config) in enumerate(CONFIGS.items()):
        model = make_up((Qwen3ForCausalLM if i == 0 else Qwen3Model)(Qwen3Config(attn_implementation="eager", **config)))
        golden.network(name, model, model.config.to_dict())
        for call, length, total in [("whole", 7, 7), ("padded", 5, 12)]:
            ids = torch.randint(config["vocab_size"], (1, total), generator=torch.Generator().manual_seed(80 + i))
            mask = (torch.arange(total) < length).long()[None]
            with torch.no_grad():
                out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            golden.value(name, call, "ids", ids)
            golden.value(name, call, "lengths", torch.tensor([length]))
            for k, states in enumerate(out.hidden_states):
                golden.value(name, call, f"states{k}", states)


def main():
    folder = os.path.join(OUT, "tokenizer")
    if not os.path.exists(folder):
        train_tokenizer(folder, 700)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # The same ids from both forms of files.
    other = os.path.join(ROOT, "build", "qwen-slow")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(folder, other)
    os.remove(os.path.join(other, "tokenizer.json"))
    slow = AutoTokenizer.from_pretrained(other)
    for text in LINES + PIECES:
        assert tokenizer(text).input_ids == slow(text).input_ids, text
    if len(sys.argv) > 1:
        return thorough(int(sys.argv[1]), tokenizer)
    tokens(tokenizer)
    golden = Golden()
    hidden(golden)
    golden.save("qwen/testdata/hidden.safetensors")


if __name__ == "__main__":
    main()
