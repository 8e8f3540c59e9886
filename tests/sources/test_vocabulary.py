"""Closed vocabularies know their labels, and nothing else."""

from __future__ import annotations

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources._vocabulary import listed_vocabulary, spell, vocabulary


def test_codes_become_words() -> None:
    classes = vocabulary("x", "dog_bark siren")
    assert classes.label("dog_bark", "here") == "dog bark"
    assert classes.label(" siren ", "here") == "siren"
    assert spell("Vehicle_horn_and__car_horn") == "Vehicle horn and car horn"


@pytest.mark.parametrize("code", ["dog bark", "Siren", "", None, 3])
def test_strangers_are_refused(code: object) -> None:
    with pytest.raises(LayoutError, match=r"^table\.csv:7: expected one of the 2 labels dog_bark, siren"):
        vocabulary("x", "dog_bark siren").label(code, "table.csv:7")


@pytest.mark.parametrize(
    ("name", "num_labels", "code", "label"),
    [
        ("esc50", 50, 14, "chirping birds"),
        ("fsd50k", 200, "Bathtub_(filling_or_washing)", "Bathtub (filling or washing)"),
        ("fsdkaggle2018", 41, "Hi-hat", "Hi-hat"),
        (
            "vocal_imitation",
            302,
            "004Animal_Domestic animals_ pets_Dog_Bark_reference",
            "Animal > Domestic animals, pets > Dog > Bark",
        ),
    ],
)
def test_lists_are_whole(name: str, num_labels: int, code: object, label: str) -> None:
    classes = listed_vocabulary(name)
    assert len(classes.labels) == len(set(classes.labels.values())) == num_labels
    assert classes.label(code, "here") == label
    assert not any(";" in text or not text for text in classes.labels.values())
