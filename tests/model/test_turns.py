from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from uniwhisper.model.turns import Dialogue, Turn, TurnMaker

WORDS = ["[UNK]", "what", "is", "heard", "a", "dog", "cat", "yes", "no"]
DIALOGUE = Dialogue(opening=(90,), middle=(91, 92), closing=(93,))


def backend() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


class Slow:
    """A tokenizer of the kind that has no fast implementation; it counts its calls."""

    is_fast = False

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        self.calls += 1
        return {"input_ids": [len(word) for word in text.split()]}


def test_prompt_and_answer_stand_in_the_template() -> None:
    maker = TurnMaker(PreTrainedTokenizerFast(tokenizer_object=backend()), DIALOGUE)
    assert maker("what is heard", "a dog") == Turn(prompt=(1, 2, 3, 91, 92), answer=(4, 5, 93))
    assert maker("", "") == Turn(prompt=(91, 92), answer=(93,))


def test_special_tokens_and_lengths_of_the_tokenizer_change_nothing() -> None:
    fast = PreTrainedTokenizerFast(tokenizer_object=backend(), bos_token="yes", pad_token="no", model_max_length=2)
    fast(["what is", "heard"], padding=True, truncation=True)  # leaves its settings in the tokenizer
    maker = TurnMaker(fast, DIALOGUE)
    fast(["what is", "heard"], padding=True, truncation=True)
    assert maker.encode("what is heard a dog") == (1, 2, 3, 4, 5)
    assert maker.encode("heard") == (3,)


def test_a_slow_tokenizer_is_called_and_known_texts_are_remembered() -> None:
    slow = Slow()
    maker = TurnMaker(slow, DIALOGUE)
    assert maker("what is heard", "a") == maker("what is heard", "a") == Turn(prompt=(4, 2, 5, 91, 92), answer=(1, 93))
    assert slow.calls == 2
    long = "word " * 100
    assert maker.encode(long) == maker.encode(long) == (4,) * 100
    assert slow.calls == 4  # a transcript does not come again


def test_it_travels_without_what_it_remembers() -> None:
    maker = TurnMaker(PreTrainedTokenizerFast(tokenizer_object=backend()), DIALOGUE)
    empty = len(pickle.dumps(maker))
    for i in range(500):
        maker(f"what is heard {i}", "a dog")
    data = pickle.dumps(maker)
    assert len(data) == empty < 5000
    assert pickle.loads(data)("what is heard", "a dog") == maker("what is heard", "a dog")


def test_threads_get_what_one_gets() -> None:
    maker = TurnMaker(PreTrainedTokenizerFast(tokenizer_object=backend()), DIALOGUE)
    texts = [f"{WORDS[i % 9]} {WORDS[i % 7]} {'dog ' * (i % 150)}" for i in range(300)]
    expected = [TurnMaker(maker._tokenizer, DIALOGUE).encode(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(maker.encode, texts)) == expected


@pytest.mark.weights
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("user_home")
@pytest.mark.parametrize("name", ["smollm2-135m"])
def test_real_tokenizers_give_the_ids_of_a_call(name: str) -> None:
    from transformers import AutoTokenizer

    from uniwhisper.errors import WeightsError
    from uniwhisper.weights import resolve

    try:
        folder: Path = resolve(name)
    except WeightsError as e:
        pytest.skip(str(e))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    maker = TurnMaker(tokenizer, DIALOGUE)
    assert isinstance(maker._tokenizer, Tokenizer)
    texts = [
        "<|audio|> transcribe, en.",
        " leading",
        "caf\u00e9 \u4f60\u597d \U0001f415",
        "a\n\nb\t",
        "<|im_end|>",
        "12:30 0.52 s",
        "",
    ]
    for text in texts:
        assert maker.encode(text) == tuple(tokenizer(text, add_special_tokens=False)["input_ids"]), text
