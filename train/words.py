"""Write models/default/words.json: the words that the embedded model was trained on, from the grammar of its captions.

    python -m train.words
"""

import json
from pathlib import Path

from . import captions, nouns
from .recolour import BACKGROUNDS, OBJECT_COLOURS

OUT = Path(__file__).parent.parent / "models/default/words.json"
NO_PLURAL = {"money", "glasses", "sunglasses", "scissors", "headphones", "jeans"}


def flat(lists):
    return [word for words in lists for word in words]


def bare(phrase):
    """Without an article before it, or "of" after it."""
    for article in ("a ", "an ", "the "):
        phrase = phrase.removeprefix(article)
    return phrase.removesuffix(" of")


def main():
    table = [row for text in (nouns.FIRST, nouns.COMMON, nouns.MORE) for row in nouns.table(text)]
    rows = [names for names, _ in table]
    plurals = sorted({captions.plural(name) for name in flat(rows) if name not in NO_PLURAL})
    synonyms = sorted({word for words in captions.COLOUR_WORDS.values() for word in words} - set(OBJECT_COLOURS))
    words = {
        "nouns": rows,  # the first name of each is the usual one
        "plurals": plurals,
        "colours": list(OBJECT_COLOURS),
        "more colours": synonyms,
        "backgrounds": [name + " background" for name in BACKGROUNDS],
        "settings": flat(captions.SETTINGS.values()),
        "scenery": [bare(phrase) for phrase in flat(captions.SCENERY.values()) + list(captions.LANDSCAPE_WORDS)],
        "places": flat(words for words, _, _ in captions.PLACES.values()),
        "counts": flat(words for words, _ in captions.COUNTS.values()) + [word for word in captions.SOME if word],
        "sizes": flat(captions.SIZE_WORDS.values()),
        "styles": sorted({bare(p.replace("{}", "").strip(" ,")) for p in flat(words for words, _ in captions.STYLES.values())}),
        "others": list(captions.FILLERS + captions.VERBS) + [e.strip(" ,") for e in captions.ENDINGS] +
            flat(words for words, _ in captions.RELATIONS.values()) + [p.strip() for p in captions.PREFIXES] + ["a", "an", "the", "and", "with", "on", "next to", "beside", "above", "over", "to the left of", "one", "single", "slice of", "cup of"],
    }
    text = "{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in words.items()) + "\n}\n"
    OUT.write_text(text)


if __name__ == "__main__":
    main()
