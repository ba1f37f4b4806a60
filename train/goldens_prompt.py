"""Golden file of the prompt syntax: clip/testdata/prompts.json.bz2.

What a prompt becomes in the AUTOMATIC1111 web UI, by an implementation of its own: characters go through a table of
states, each span keeps the list of the factors that apply to it, and chunks are cut from one list of tokens. It was
checked against the web UI's code on 100,000 random prompts. Plain prompts come from transformers' CLIPTokenizer, called
as StableDiffusionPipeline.encode_prompt does. Emphasis comes from torch.

    python train/goldens_prompt.py
"""
import bz2
import json
import os
import random
import re
import tempfile
import zipfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from transformers import CLIPTokenizer

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clip", "testdata")
NEAR_COMMA = 20  # the web UI's default for "comma padding backtrack"
NUMBER = re.compile(r":\s*([+-]?[.\d]+)\s*\)")


def spans(prompt):
    """[text, weight] pairs; the weight of a BREAK is None unless brackets make a word of it."""
    out, stacks = [], {"(": [], "[": []}  # out: [text, factors in the order in which their brackets close]

    def close(kind, factor):
        for item in out[stacks[kind].pop():]:
            item[1].append(factor)

    def plain(text):
        first, *more = re.split(r"\s*\bBREAK\b\s*", text)
        out.append([first, [1.0]])
        for part in more:
            out.extend([["BREAK", [-1]], [part, [1.0]]])

    i = 0
    while i < len(prompt):
        c, number = prompt[i], NUMBER.match(prompt, i)
        if c == "\\":
            escaped = prompt[i + 1 : i + 2] if prompt[i + 1 : i + 2] in list("()[]\\") else ""
            out.append([escaped, [1.0]])
            i += 1 + len(escaped)
        elif c in "([":
            stacks[c].append(len(out))
            i += 1
        elif number:
            close("(", float(number[1])) if stacks["("] else plain(number[0])
            i = number.end()
        elif c in ")]:":
            kind = {")": "(", "]": "["}.get(c)
            if kind and stacks[kind]:
                close(kind, 1.1 if c == ")" else 1 / 1.1)
            else:
                plain(c)
            i += 1
        else:
            end = re.compile(r"[\\()\[\]:]").search(prompt, i)
            end = end.start() if end else len(prompt)
            plain(prompt[i:end])
            i = end
    for kind, factor in (("(", 1.1), ("[", 1 / 1.1)):
        for start in stacks[kind]:  # never closed; the outermost first
            for item in out[start:]:
                item[1].append(factor)
    result = []
    for text, factors in out or [["", [1.0]]]:
        weight = factors[0]
        for f in factors[1:]:
            weight *= f
        if result and result[-1][1] == weight:
            result[-1][0] += text
        else:
            result.append([text, weight])
    return [[text, None if text == "BREAK" and weight == -1 else weight] for text, weight in result]


def frame(t, tokens, window):
    """[ids, weights, number of tokens] with start, end and padding."""
    fill = window - 2 - len(tokens)
    ids = [t.bos_token_id, *(x for x, *_ in tokens), t.eos_token_id] + [t.pad_token_id] * fill
    return [ids, [1.0, *(w for _, w, *_ in tokens), 1.0] + [1.0] * fill, len(tokens)]


def chunks(t, prompt, window):
    room, comma = window - 2, t.get_vocab().get(",</w>")
    done, now = [], []  # now: (id, weight, whether a cut may follow)
    for text, weight in spans(prompt):
        if weight is None:
            done.append(now)
            now = []
            continue
        for token in t(text, add_special_tokens=False, truncation=False).input_ids:
            full = len(now) == room
            if full:
                cut = max((i + 1 for i, x in enumerate(now) if x[2]), default=0)
                if token == comma or cut == 0 or room - (cut - 1) > NEAR_COMMA:
                    cut = room
                done.append(now[:cut])
                now = now[cut:]
            now.append((token, weight, token == comma and not full))  # a comma that did not fit any more is no place to cut
    if now or not done:
        done.append(now)
    return [frame(t, c, window) for c in done]


def plain(t, prompt, window):
    """The chunk and the text that was cut off, as StableDiffusionPipeline.encode_prompt reports it."""
    ids = t(prompt, padding="max_length", max_length=window, truncation=True).input_ids
    whole = t(prompt, padding="longest", truncation=False).input_ids
    cut = t.decode(whole[window - 1 : -1]) if len(whole) > len(ids) else ""
    return ids, cut


# --- Prompts.

rnd = random.Random(4)
WORDS = """a red apple cat dog house on the table, castle, oil painting, 8k, best quality, Café naïve BREAK BREAKFAST breaks_BREAK
BREAK-dance don't 1.5 1girl, très, 猫 😀 , , , masterpiece, highly detailed, by Van Gogh, <|endoftext|>""".replace("\n", " ").split(" ")
PIECES = WORDS * 3 + list("()[]:\\") * 6 + [":1.3)", ":0.5)", ":-1)", ":+1.21)", ": 1.1 )", ":1)", ":0)", ":.5)", ":2.)", ":1.2.3", ":)", "(:", "\\(", "\\)",
    "\\[", "\\]", "\\\\", "\\a", " BREAK ", "\n", "\x1f", "\u3000", "BREAK"]
FIXED = ["", " ", "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", "(unbalanced", "[unbalanced", "unbalanced)", "x:1.3)", "(a:1.3", "((a)", "[[a]",
    "[(a])b", "a BREAK b", "BREAK", "BREAK BREAK", "(a BREAK b)", "a(BREAK:1.0)b", "aBREAKb", "a_BREAK b", "a,BREAK,b", "é BREAK", "\\(literal\\]",
    "(a:1.2)(b:1.2)", "(un)necessary", "()", "[]", "(:1.3)", "((((((((((deep))))))))))", "[[[[[[shallow]]]]]]", "(a:0)", "(a:-0.5)", "a\\", "(a\\)b)"]


def prompts():
    yield from FIXED
    for n in range(1, 100, 6):
        yield " ".join(rnd.choice(WORDS[:16]) for _ in range(n))
    for _ in range(220):
        yield "".join(rnd.choice(PIECES) + rnd.choice(["", " "]) for _ in range(rnd.choice([4, 12, 12, 40])))
    for commas in range(0, 40, 4):  # a comma at every distance from the end of a chunk
        yield "a " * (40 - commas) + ", " + "b " * (commas + 60) + "," + "c " * 40


def emphasis():
    """Hidden states, weights and what the web UI makes of them."""
    g = torch.Generator().manual_seed(3)
    for tokens, width, shift in ((4, 3, 0.3), (24, 8, -0.1), (77, 16, -0.12)):
        z = torch.randn(tokens, width, generator=g) + shift
        w = torch.ones(tokens)
        w[1 : tokens // 2] = torch.rand(tokens // 2 - 1, generator=g) * 1.5
        weighted = z * w[:, None]
        result = weighted * (z.double().mean() / weighted.double().mean()).float()
        yield [width, z.flatten().tolist(), w.tolist(), result.flatten().tolist()]


def main():
    lines = []
    with tempfile.TemporaryDirectory() as root:
        zipfile.ZipFile(os.path.join(OUT, "tokenizers.zip")).extractall(root)
        for folder, windows in (("default", (24, 77)), ("sd1", (77, 12)), ("sd2", (77, 3))):
            t = CLIPTokenizer.from_pretrained(f"{root}/{folder}")
            for prompt in prompts():
                try:
                    expected = spans(prompt)
                except ValueError:  # ":1.2.3)" stops the web UI
                    continue
                window = rnd.choice(windows)
                c = chunks(t, prompt, window)
                used = [[ids[: n + 2], weights[1 : n + 1]] for ids, weights, n in c]  # what follows is fixed: Pad, weight 1
                lines.append([folder, prompt, window, expected if folder == "default" else None, used, *plain(t, prompt, window)])
    data = "".join(json.dumps(x, ensure_ascii=False, separators=(",", ":")) + "\n" for x in lines).encode()
    with open(os.path.join(OUT, "prompts.json.bz2"), "wb") as f:
        f.write(bz2.compress(data))
    with open(os.path.join(OUT, "emphasis.json.bz2"), "wb") as f:
        f.write(bz2.compress("".join(json.dumps(x) + "\n" for x in emphasis()).encode()))
    print(len(lines), "prompts,", {f: os.path.getsize(os.path.join(OUT, f)) for f in os.listdir(OUT)})


if __name__ == "__main__":
    main()
