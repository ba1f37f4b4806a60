"""Golden files of the tokenizer: clip/testdata/tokenizers.zip, tokens.json.bz2 and decoded.json.bz2.

Expected ids come from transformers' CLIPTokenizer, loaded as StableDiffusionPipeline loads it, with the vocabulary of
the default model and with a small one trained here, in every form of folder that models are found in.

    python train/goldens_tokens.py [TOKENIZER_FOLDER]
"""
import bz2
import io
import json
import os
import random
import shutil
import sys
import tempfile
import unicodedata
import zipfile
from collections import Counter

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from tokenizers import Regex, normalizers, pre_tokenizers
from transformers import CLIPTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "clip", "testdata")
DEFAULT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "models", "default", "tokenizer")

SPECIAL = ["<|startoftext|>", "<|endoftext|>"]
LINES = """a red apple on a wooden table, studio light, 85mm, highly detailed
an astronaut's horse, don't they've we'll I'm you'd it's THE DOGS' 1990s
Café crème brûlée, naïve façade, Ångström, Łódź, Øresund, Dvořák, Gödel, ñandú, São Tomé
Ελληνικά γράμματα ΟΔΥΣΣΕΥΣ Σίσυφος, τέλος ΤΕΛΟΣ
Съешь же ещё этих мягких французских булок, да выпей чаю
ĳsvogel İstanbul ISPARTA ığdır DİYARBAKIR ǅungla ﬁne ﬃcial ß ẞ straße STRASSE
السلام عليكم ورحمة الله، ١٢٣ ٤٥٦ كتابٌ جميلٌ
שלום עולם בְּרֵאשִׁית בָּרָא אֱלֹהִים
नमस्ते दुनिया क्षत्रिय ज्ञान १२३ हिन्दी
สวัสดีชาวโลก ภาษาไทย ๑๒๓ น้ำ
今日は世界、東京タワー ｶﾀｶﾅ ハーフ パーティー が か\u3099 は\u309a
春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。
안녕하세요 세계 한글 \u1112\u1161\u11ab\u1100\u1173\u11af
👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 🇩🇪🇫🇷 👍🏿 ❤️‍🔥 #️⃣ 1️⃣ ☕️ 🫠🪿
Việt Nam tiếng Việt đặc biệt ệ e\u0323\u0302 e\u0302\u0323 ế
½ ⅓ Ⅻ ⅻ ② ³ ¹ ⁵ 𝟘𝟙 ꩐ ๙ 七 〇 ㊿ 𐄇
∑∫√∞ ≠ =\u0338 ≮ <\u0338 ∀x∈ℝ: x²≥0 — “quotes” ‘single’ «angle» … ‰ № ™ ℡ K Å Ω
#hashtag @user http://example.org/?q=a+b&c=%20 C++ C# f(x)=[x^2] {a:1} ~/.config \\n \\t
((masterpiece)), (best quality:1.2), [lowres], __init__, snake_case, CamelCase, kebab-case
Z̷̢̛a̴l̵g̶o̸ t\u0336e\u0336x\u0336t\u0336 o\u0308\u0304 \u0308\u0301 \u0344 \u212b \u2126 \u0958 \ufb1d
ႠႡႢ ⴀⴁ ᲐᲑᲒ Ꭰꭰ Ᏸᏸ Ա և Ⴧ ꙀꙁⰀⰰ 𐐀𐐨 𞤀𞤢 ᾈ ᾀ ϴ θ
ſ 'ſ it'ſ K'ELVIN 'S 'T 'RE 'VE 'M 'LL 'D ''s '''t 's't'm ’s""".split("\n")


# --- The corpus: (kind, strings).

rnd = random.Random(20240601)
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
NFD, LOWER = normalizers.NFD().normalize_str, normalizers.Lowercase().normalize_str
MARKS = [c for c in CODE_POINTS if unicodedata.combining(chr(c))]
COMPOSED = [c for c in CODE_POINTS if NFD(chr(c)) != chr(c) and not 0xAC00 <= c < 0xD7A4]
SPACES = [9, 10, 11, 12, 13, 32, 0x1C, 0x1D, 0x1E, 0x1F, 0x85, 0xA0, 0x1680, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F, 0x205F,
          0x2060, 0x3000, 0xFEFF, 0x180E, 0]


def class_edges():
    """The first and last code points of every run of letters, of numerals and of neither, each beside a letter."""
    edges, before = [], None
    erase = [normalizers.Replace(Regex(p), "") for p in (r"\p{L}", r"\p{N}", r"\s")]
    for c in CODE_POINTS:
        kind = [e.normalize_str(chr(c)) == "" for e in erase]
        if kind != before:
            edges += [c - 1, c] if c not in (0, 0xE000) else [c]
        before = kind
    return [f"a{chr(c)}b" for c in edges if not 0xD800 <= c < 0xE000]


def grouped(strings, n):
    return [" ".join(strings[i : i + n]) for i in range(0, len(strings), n)]


def draw(pool, most):
    return "".join(chr(rnd.choice(pool)) for _ in range(rnd.randrange(1, most)))


def slices_of_lines(n):
    for _ in range(n):
        line = rnd.choice(LINES)
        i = rnd.randrange(len(line))
        s = line[i : i + rnd.randrange(1, 25)]
        yield rnd.choice([s, s, s.upper(), s.title(), unicodedata.normalize("NFD", s), unicodedata.normalize("NFC", s)])


def prompts(n):
    adjectives = "red blue tiny old shiny wooden glass golden furry angry happy sleeping flying broken neon misty".split()
    nouns = "apple cat dog house tree castle robot dragon teapot ship mountain river guitar car bird city owl fox".split()
    styles = ["oil painting", "photo, 35mm", "3d render", "watercolour", "pixel art", "by Van Gogh", "8k, HDR", "low-poly", "1920s poster"]
    for _ in range(n):
        s = f"a {rnd.choice(adjectives)} {rnd.choice(nouns)}"
        if rnd.random() < 0.5:
            s += f" and {rnd.randrange(200)} {rnd.choice(adjectives)} {rnd.choice(nouns)}s"
        if rnd.random() < 0.7:
            s += f", {rnd.choice(styles)}"
        yield rnd.choice([s, s, s.capitalize(), s.upper(), s + ".", s + "!!!"])


def with_tokens(n, more=()):
    pieces = SPECIAL + ["<|StartOfText|>", "<|ENDOFTEXT|>", "<|endoftext|", "|endoftext|>", "<|", "|>", "!", "!!", " ", "a", "x y", "É"]
    for _ in range(n):
        yield "".join(rnd.choice([*pieces, *more]) + rnd.choice(["", "", " ", "\u3000"]) for _ in range(rnd.randrange(1, 6)))


def mixed(n):
    pools = [range(32, 127), MARKS, COMPOSED, SPACES, range(0x3000), CODE_POINTS, range(0x1F000, 0x1FB00), range(0x4E00, 0x4F00),
             range(0x590, 0x6FF), range(0xAC00, 0xD7A4), range(0x1100, 0x1200), [39], list(map(ord, "stremvld'S"))]
    for _ in range(n):
        yield "".join(draw(rnd.choice(pools), 6) + rnd.choice(["", "", " "]) for _ in range(rnd.randrange(1, 5)))


def corpus():
    lower = [c for c in CODE_POINTS if LOWER(chr(c)) != chr(c)]
    yield "plain", ["", " ", "\n", "a", "'", "''", *LINES, *prompts(1000)]
    yield "languages", list(slices_of_lines(1200))
    yield "class edges", grouped(class_edges(), 4)
    yield "lower case", grouped([chr(c) for c in lower], 8)
    yield "composition", grouped([rnd.choice([chr(c), NFD(chr(c))]) for c in COMPOSED], 6)
    yield "marks", ["o" + draw(MARKS, 7) + rnd.choice(["", "a"]) for _ in range(400)]
    yield "marks of every class", grouped(["a" + chr(c) + chr(rnd.choice(MARKS)) for c in MARKS], 3)
    yield "long runs of marks", ["e" + draw(MARKS, 45) + draw(MARKS, 45) for _ in range(10)] + ["e" + "\u0316\u0301" * 40]
    yield "Hangul", [draw(list(range(0x1100, 0x1200)) + [0xAC00, 0xAC01, 0xB098, 0xD7A3], 6) for _ in range(150)]
    yield "emoji", ["".join(chr(rnd.randrange(0x1F300, 0x1FAFF)) + rnd.choice(["", "\u200d", "\ufe0f", "\U0001f3fd"]) for _ in range(rnd.randrange(1, 5)))
                    for _ in range(300)]
    yield "spaces", ["a" + draw(SPACES, 6) + "B" + draw(SPACES, 4) for _ in range(300)]
    yield "control characters", [draw(list(range(32)) + list(range(127, 160)) + [0x200B, 0x200E, 0x202E, 0xFFFD, 0xFFFE, 65], 8) for _ in range(200)]
    yield "apostrophes", [draw(list(map(ord, "''''strevmldSTREVMLD ’ſ")), 10) for _ in range(400)]
    yield "numerals", [draw([c for c in CODE_POINTS if unicodedata.category(chr(c))[0] == "N"] + [65, 32, 0x4E03], 6) for _ in range(300)]
    yield "special tokens", list(with_tokens(300))
    yield "any code point", [draw(CODE_POINTS, 7) for _ in range(700)]
    yield "mixed", list(mixed(1200))
    yield "long", ["ab" * 400, "Ω" * 300, "!" * 500, "x" + " " * 700 + "y", "'" * 100 + "s", "9" * 120]


# --- The vocabularies and their folders.


def small_vocabulary(size):
    """A byte level BPE in CLIP's order: bytes, bytes at the end of a word, merges, special tokens.

    Trained here, because the library's trainer breaks ties by chance."""
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"'s|'t|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    words = Counter(w for line in LINES for w, _ in split.pre_tokenize_str(unicodedata.normalize("NFC", line).lower()))
    words = [[[*w[:-1], w[-1] + "</w>"], n] for w, n in sorted(words.items())]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens, merges = alphabet + [b + "</w>" for b in alphabet], []
    while len(tokens) < size - len(SPECIAL):
        pairs = Counter()
        for symbols, n in words:
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        a, b = max(sorted(pairs), key=pairs.get)
        merges.append((a, b))
        if a + b not in tokens:
            tokens.append(a + b)
        for word in words:
            joined = []
            for s in word[0]:
                if joined and joined[-1] == a and s == b:
                    joined[-1] = a + b
                else:
                    joined.append(s)
            word[0] = joined
    return {t: i for i, t in enumerate(tokens + SPECIAL)}, merges


def write(folder, **files):
    os.makedirs(folder)
    for name, value in files.items():
        name, _, kind = name.rpartition("_")
        with open(os.path.join(folder, f"{name}.{kind}"), "w", encoding="utf-8") as f:
            f.write(value if kind == "txt" else json.dumps(value, ensure_ascii=False))


def token(content, typed=False, **flags):
    t = dict(content=content, lstrip=False, normalized=True, rstrip=False, single_word=False)
    return dict(t, **flags, **({"__type": "AddedToken"} if typed else {}))


def folders(root):
    """Every form of tokenizer folder, by name."""
    vocab, merges = small_vocabulary(1100)
    lines = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)
    start, end = SPECIAL
    text = dict(vocab_json=vocab, merges_txt=lines)
    plain = dict(bos_token=start, eos_token=end, unk_token=end, pad_token=end)

    shutil.copytree(DEFAULT, f"{root}/default")
    write(f"{root}/bare", **text)
    write(f"{root}/sd1", **text,  # as Stable Diffusion 1.5's
          tokenizer_config_json=dict(bos_token=token(start, True), eos_token=token(end, True), unk_token=token(end, True), pad_token=end,
                                     model_max_length=77, tokenizer_class="CLIPTokenizer", do_lower_case=True, add_prefix_space=False),
          special_tokens_map_json=dict(bos_token=token(start), eos_token=token(end), unk_token=token(end), pad_token=end))
    write(f"{root}/sd2", **text,  # as Stable Diffusion 2.1's: "!" fills up
          tokenizer_config_json=dict(bos_token=token(start, True), eos_token=token(end, True), unk_token=token(end, True), pad_token=end,
                                     model_max_length=77, tokenizer_class="CLIPTokenizer"),
          special_tokens_map_json=dict(bos_token=token(start), eos_token=token(end), unk_token=token(end), pad_token="!"))
    n = len(vocab)
    write(f"{root}/decoder", **text,  # as transformers 4.34 and later save, with tokens added after training
          tokenizer_config_json=dict(plain, model_max_length=20, added_tokens_decoder={
              str(n - 2): token(start, normalized=False, special=True), str(n - 1): token(end, normalized=True, special=True),
              str(n): token("<Cat-Toy>", special=False), str(n + 1): token("<Cat", normalized=False, special=False),
              str(n + 2): token("Left", lstrip=True, special=False), str(n + 3): token("right", rstrip=True, normalized=False, special=False),
              str(n + 4): token("word", single_word=True, special=False), str(n + 5): token("a b", lstrip=True, rstrip=True, special=False)}))
    write(f"{root}/added", **text,  # the oldest form
          special_tokens_map_json=dict(plain, additional_special_tokens=["<extra>", "Left"]), added_tokens_json={"<Cat-Toy>": n, "right": n + 1})
    write(f"{root}/unsplit", **text, tokenizer_config_json=dict(plain, split_special_tokens=True, model_max_length=10**30))
    # Bytes that are missing, ids with holes, merges in an order that no training gives, a merge of the unknown token.
    some = {t: 3 * i for i, t in enumerate(vocab) if t not in "qé×ÿ" and t not in ("x</w>", "Ł</w>")}
    kept = [(a, b) for a, b in merges if a in some and b in some and a + b in some]
    rnd.shuffle(kept)
    some["<unk>"], some["<unk>a"] = 1, 2
    write(f"{root}/gaps", vocab_json=some, merges_txt="".join(f"{a} {b}\r\n" for a, b in [*kept, ("<unk>", "a"), *kept[:20]]),
          tokenizer_config_json=dict(plain, unk_token="<unk>", pad_token="a</w>", extra_special_tokens=["Left"]))
    for name in ("whole", "whole4"):  # tokenizer.json alone, as today's library saves it and with merges as lines
        CLIPTokenizer.from_pretrained(f"{root}/decoder").save_pretrained(f"{root}/{name}")
    with open(f"{root}/whole4/tokenizer.json", encoding="utf-8") as f:
        saved = json.load(f)
    saved["model"]["merges"] = [" ".join(m) for m in saved["model"]["merges"]]
    shutil.rmtree(f"{root}/whole4")
    write(f"{root}/whole4", tokenizer_json=saved)


def compressed(name, lines):
    data = "".join(json.dumps(x, ensure_ascii=False, separators=(",", ":")) + "\n" for x in lines).encode()
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(bz2.compress(data))


def main():
    os.makedirs(OUT, exist_ok=True)
    strings = [(kind, s) for kind, list_ in corpus() for s in list_]
    few = [(kind, s) for kind, s in rnd.sample(strings, 350)]
    extra = ["<Cat-Toy>", "<cat-toy>", "<Cat", "<CAT-", "Left", "LEFT", "right", "Right", "word", "Word", "wording", "sword", "a b", "A  B", "<extra>", "<unk>"]
    tokens, decoded = [], []
    with tempfile.TemporaryDirectory() as root, zipfile.ZipFile(os.path.join(OUT, "tokenizers.zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        folders(root)
        for name in sorted(os.listdir(root)):
            t = CLIPTokenizer.from_pretrained(f"{root}/{name}")
            mine = strings if name == "default" else few + [("special tokens", s) for s in with_tokens(120, extra)]
            for kind, s in mine:
                ids = t(s, add_special_tokens=False, truncation=False).input_ids
                tokens.append([name, kind, s, ids])
            ids = dict(Start=t.bos_token_id, End=t.eos_token_id, Pad=t.pad_token_id, Unknown=t.unk_token_id,
                       MaxLength=t.model_max_length if t.model_max_length < 1e9 else 0)
            decoded.append([name, ids, [[i, t.decode(i)] for _, s in rnd.sample(mine, 40) for i in [t(s).input_ids[rnd.randrange(4):]]]])
            for file in sorted(os.listdir(f"{root}/{name}")):
                with open(f"{root}/{name}/{file}", "rb") as f:
                    z.writestr(zipfile.ZipInfo(f"{name}/{file}"), f.read(), zipfile.ZIP_DEFLATED)
    compressed("tokens.json.bz2", tokens)
    compressed("decoded.json.bz2", decoded)
    print(len(strings), "strings,", len(tokens), "with all folders;", {f: os.path.getsize(os.path.join(OUT, f)) for f in os.listdir(OUT)})


main()
