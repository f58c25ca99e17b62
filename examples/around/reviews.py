"""Text in, an opinion out: the tokenizer and the words for the scores are Python around a Keras model.

solo serve examples/around/serve_config.yaml
curl -d '{"instances": ["a wonderful film", "dull and far too long"]}' http://127.0.0.1:8000/v1/models/reviews:predict
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

PLACES = 16
GOOD = ["wonderful", "great", "lovely", "good", "brilliant", "fine", "best", "touching", "funny", "clever"]
BAD = ["dull", "bad", "awful", "boring", "poor", "worst", "weak", "silly", "long", "empty"]
OTHERS = ["a", "the", "film", "plot", "acting", "and", "was", "is", "very", "too", "it", "far"]
WORDS = [*GOOD, *BAD, *OTHERS]
_NUMBERS = {word: number for number, word in enumerate(WORDS, 2)}


def model() -> keras.Model:
    """Return a small classifier: numbers of words `[batch, PLACES]` int32 to how good `[batch, 1]`; 0 is no word."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((PLACES,), dtype="int32", name="tokens")
    words = keras.layers.Embedding(len(WORDS) + 2, 8, mask_zero=True)(tokens)
    mean = keras.layers.GlobalAveragePooling1D()(words)
    made = keras.Model(tokens, keras.layers.Dense(1, activation="sigmoid", name="good")(mean))
    made.compile("adam", "binary_crossentropy")
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice([*(GOOD if i % 2 else BAD), *OTHERS], 6)) for i in range(600)]
    good = np.array([sum((word in GOOD) - (word in BAD) for word in text.split()) > 0 for text in texts])
    made.fit(tokenize(texts), good.astype(np.float32), epochs=30, batch_size=100, verbose=0)
    return made


def tokenize(text: list[str]) -> np.ndarray:
    """Return each text's words as numbers, `[batch, PLACES]` int32; a text without words is refused."""
    tokens = np.zeros((len(text), PLACES), np.int32)
    for row, each in enumerate(text):
        numbers = [_NUMBERS.get(word.strip(".,!?"), 1) for word in each.lower().split()][:PLACES]
        if not numbers:
            raise ValueError(f"text {row}: expected at least one word")
        tokens[row, : len(numbers)] = numbers
    return tokens


def opinion(good: np.ndarray, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the model thinks of each text, as JSON."""
    return [
        {"text": text, "opinion": "good" if score > 0.5 else "bad", "score": round(float(score), 3)}
        for text, score in zip(request["text"], good[:, 0], strict=True)
    ]
