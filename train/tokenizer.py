"""Train the tokenizer: byte-pair encoding in CLIP's format, on the grammar's captions and all icon names.

    python -m train.tokenizer          # WORK/tokenizer/{vocab.json, merges.txt, ...}

CLIP's order of the vocabulary: 256 bytes, the same 256 ending a word, the merges, the two markers.
"""

import argparse
import json

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from .captions import Grammar, Mix
from .models import TOKENS
from .recolour import Painter
from .runtime import log, set_up, work_dir, write_json
from .sprites import Catalogue

START, END = "<|startoftext|>", "<|endoftext|>"
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def corpus(captions, seed=5):
    """Captions of random scenes, and every name and keyword a dozen times so that each becomes few tokens."""
    catalogue = Catalogue()
    grammar = Grammar(catalogue, Painter(catalogue), Mix(rare=0.3))
    rng = np.random.default_rng(seed)
    lines = [grammar.scene(rng).caption for _ in range(captions)]
    names = [name for rows in (grammar.rows, grammar.rare) for names, _ in rows for name in names]
    keywords = [tag.lower() for record in catalogue.records for tag in record["tags"]]
    return lines + 12 * (names + keywords)


def learn_merges(lines, size):
    learner = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    learner.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=size - 2 - len(alphabet), initial_alphabet=alphabet, end_of_word_suffix="</w>",
        special_tokens=[], min_frequency=2, show_progress=False))
    merges = json.loads(learner.to_str())["model"]["merges"]
    return alphabet, [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def write(alphabet, merges, folder):
    words = dict.fromkeys(alphabet + [letter + "</w>" for letter in alphabet])
    words.update(dict.fromkeys(merge.replace(" ", "") for merge in merges))
    vocabulary = {word: k for k, word in enumerate([*words, START, END])}
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    markers = dict(bos_token=START, eos_token=END, pad_token=END, unk_token=END)
    write_json(dict(tokenizer_class="CLIPTokenizer", model_max_length=TOKENS, do_lower_case=True, **markers),
               folder / "tokenizer_config.json")
    write_json(markers, folder / "special_tokens_map.json")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=20000)
    parser.add_argument("--size", type=int, default=4096, help="largest vocabulary")
    options = parser.parse_args(argv)
    set_up()
    folder = work_dir() / "tokenizer"
    if (folder / "special_tokens_map.json").exists():
        log(f"tokenizer: {folder} is there already")
        return
    write(*learn_merges(corpus(options.captions), options.size), folder)
    words = CLIPTokenizer.from_pretrained(str(folder))
    log(f"tokenizer: {len(words)} entries; 'a red apple' is {words('a red apple').input_ids}")


if __name__ == "__main__":
    main()
