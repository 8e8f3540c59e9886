from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniwhisper.cutting import Uncuttable, cut, part
from uniwhisper.errors import ConfigError
from uniwhisper.types import Annotation, Clip, Event, Note, Question

SLIVER_S = 0.02


def recording(duration_s: float, annotation: Annotation | None = None, **fields: Any) -> Clip:
    return Clip(
        id="rec",
        source="yard",
        path="/audio/rec.wav",
        split="train",
        duration_s=duration_s,
        domain="sound",
        annotation=annotation or Annotation(labels=("wind",)),
        **fields,
    )


def pieces_of(clip: Clip, **options: Any) -> list[Clip]:
    pieces = cut(clip, **options)
    assert isinstance(pieces, list), pieces
    return pieces


def spans(pieces: list[Clip]) -> list[tuple[float, float]]:
    return [(piece.start_s, round(piece.start_s + piece.duration_s, 6)) for piece in pieces]


def event(onset_s: float, offset_s: float, label: str = "dog") -> Event:
    return Event(label=label, onset_s=onset_s, offset_s=offset_s)


def test_a_clip_that_fits_is_the_same_object() -> None:
    for clip in (recording(30.0), recording(0.2, Annotation(transcript="hello"))):
        assert pieces_of(clip)[0] is clip


def test_equal_pieces_inherit_what_is_said_about_the_whole() -> None:
    annotation = Annotation(
        captions=("Wind.",),
        labels=("wind",),
        attributes={"place": "yard"},
        votes={"wind": 3},
        metadata={"title": "A yard"},
        questions=(Question(question="How many gusts?", answer="7"),),
    )
    clip = recording(70.0, annotation, speaker="s1", license="CC0", start_s=5.0, offset_bytes=512, num_bytes=99)
    pieces = pieces_of(clip)
    assert [piece.id for piece in pieces] == ["rec#0001", "rec#0002", "rec#0003"]
    assert [piece.duration_s for piece in pieces] == [23.333334, 23.333334, 23.333332]
    assert [piece.start_s for piece in pieces] == [5.0, 28.333334, 51.666668]
    for piece in pieces:
        assert piece.annotation == dataclasses.replace(annotation, questions=())
        assert (piece.path, piece.offset_bytes, piece.num_bytes, piece.group) == (clip.path, 512, 99, "rec")
        assert (piece.speaker, piece.license, piece.split) == ("s1", "CC0", "train")
    assert [piece.group for piece in pieces_of(recording(70.0, group="album"))] == ["album"] * 3


def test_a_cut_lies_in_the_last_gap_shortly_before_the_next_onset() -> None:
    sounds = (event(0, 18), event(18.5, 24), event(26, 31), event(31, 44))
    assert spans(pieces_of(recording(44.0, Annotation(events=sounds)))) == [(0.0, 25.75), (25.75, 44.0)]
    close = (event(0, 25), event(25.1, 31), event(31, 44))
    assert spans(pieces_of(recording(44.0, Annotation(events=close)))) == [(0.0, 25.05), (25.05, 44.0)]
    touching = (event(0, 25), event(25, 31), event(31, 44))
    assert spans(pieces_of(recording(44.0, Annotation(events=touching)))) == [(0.0, 25.0), (25.0, 44.0)]
    silence = (event(0, 20), event(41, 44))
    assert spans(pieces_of(recording(44.0, Annotation(events=silence)))) == [(0.0, 30.0), (30.0, 44.0)]


def test_without_a_gap_the_fewest_are_split_and_both_sides_keep_their_part() -> None:
    hold = Note(pitch=60, onset_s=2, offset_s=40, instrument="organ")
    melody = [Note(pitch=70 + n, onset_s=4.0 * n, offset_s=4.0 * n + 3.9) for n in range(10)]
    first, second = pieces_of(recording(40.0, Annotation(notes=(hold, *melody))))
    assert first.duration_s == pytest.approx(27.95)
    assert first.annotation.notes == (dataclasses.replace(hold, offset_s=27.95), *melody[:7])
    assert second.annotation.notes[0] == dataclasses.replace(hold, onset_s=0.0, offset_s=12.05)
    assert second.annotation.notes[1] == dataclasses.replace(melody[7], onset_s=0.05, offset_s=3.95)


def test_labels_of_events_go_with_their_events() -> None:
    sounds = (event(1, 2, "dog"), event(3, 4, "bell"), event(40, 41, "dog"))
    clip = recording(50.0, Annotation(events=sounds, labels=("dog", "bell", "outdoors")))
    first, second = pieces_of(clip)
    assert first.annotation.labels == ("dog", "bell", "outdoors")
    assert second.annotation.labels == ("dog", "outdoors")
    assert second.annotation.events == (event(10, 11),)


def test_the_end_is_never_a_splinter() -> None:
    for annotation in (Annotation(labels=("wind",)), Annotation(events=(event(0, 30.3),))):
        pieces = pieces_of(recording(30.4, annotation))
        assert len(pieces) == 2
        assert min(piece.duration_s for piece in pieces) >= 1.0


def test_a_sliver_is_left_out_and_its_note_kept() -> None:
    note = Note(pitch=60, onset_s=28.99, offset_s=59)
    assert part(Annotation(notes=(note,)), 0.0, 29.0).notes == ()
    assert part(Annotation(notes=(note,)), 29.0, 59.0).notes == (Note(pitch=60, onset_s=0.0, offset_s=30.0),)
    short = Note(pitch=60, onset_s=9.99, offset_s=10.005)
    assert part(Annotation(notes=(short,)), 0.0, 10.0).notes == (Note(pitch=60, onset_s=9.99, offset_s=10.0),)
    assert part(Annotation(notes=(short,)), 10.0, 20.0).notes == ()


def test_youtube_spans_are_narrowed() -> None:
    ids = ("youtube:dQw4w9WgXcQ@100-160", "youtube:dQw4w9WgXcQ", "freesound:7")
    first, second = pieces_of(recording(60.0, upstream_ids=ids))
    assert first.upstream_ids == ("youtube:dQw4w9WgXcQ@100-130", *ids[1:])
    assert second.upstream_ids == ("youtube:dQw4w9WgXcQ@130-160", *ids[1:])
    short = pieces_of(recording(60.0, upstream_ids=("youtube:dQw4w9WgXcQ@100-110",)))
    assert [piece.upstream_ids for piece in short] == [("youtube:dQw4w9WgXcQ@100-110",)] * 2


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Annotation(transcript="hello"), "40.0 s are too long for one clip, and a transcript without times cannot"),
        (Annotation(translations={"de": "hallo"}), "a transcript without times cannot be cut"),
        (Annotation(transcript="hello", events=(event(0, 1),)), "a transcript without times cannot be cut"),
        (Annotation(questions=(Question(question="What?", answer="A dog"),)), "its questions are about the whole"),
        (Annotation(events=(event(3, 2),)), "event 'dog' has impossible times: 3 to 2 s"),
        (Annotation(events=(event(-1, 2),)), "event 'dog' has impossible times: -1 to 2 s"),
        (Annotation(notes=(Note(pitch=60, onset_s=float("nan"), offset_s=2),)), "note 60 has impossible times: nan"),
        (Annotation(events=(event(42, 43),)), "event 'dog' begins at 42.00 s, after the recording's end"),
    ],
)
def test_what_cannot_be_cut_says_why(annotation: Annotation, reason: str) -> None:
    refused = cut(recording(40.0, annotation))
    assert isinstance(refused, Uncuttable)
    assert refused.clip_id == "rec"
    assert reason in refused.reason


def test_what_ends_after_the_recording_is_clipped() -> None:
    last = pieces_of(recording(40.0, Annotation(events=(event(5, 6), event(38, 43), event(40.5, 41)))))[-1]
    assert [item.label for item in last.annotation.events] == ["dog"]
    assert last.annotation.events[0].offset_s == last.duration_s


def test_limits_have_to_make_sense() -> None:
    for options in ({"max_s": 1.0}, {"min_s": 0.0}, {"max_s": 5.0, "min_s": 3.0}):
        with pytest.raises(ConfigError, match="cut: expected 0 < 2"):
            cut(recording(60.0), **options)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Clip, float]:
    """Draw a recording longer than its limit, with items anywhere in it, and the limit."""
    max_s = draw(st.sampled_from([2.0, 7.3, 30.0]))
    duration_s = max_s + draw(st.integers(1, 150_000_000)) / 1e6
    start = st.integers(0, int(duration_s * 1e6) - 1).map(lambda us: us / 1e6)
    length = st.one_of(st.integers(0, 60_000), st.integers(0, 90_000_000)).map(lambda us: us / 1e6)
    items = [(a, min(a + d, duration_s)) for a, d in draw(st.lists(st.tuples(start, length), max_size=25))]
    events = tuple(event(a, b, f"e{n}") for n, (a, b) in enumerate(items[::2]))
    notes = tuple(Note(pitch=n, onset_s=a, offset_s=b) for n, (a, b) in enumerate(items[1::2]))
    return recording(duration_s, Annotation(events=events, notes=notes, labels=("wind",))), max_s


@given(drawn=recordings())
def test_pieces_cover_the_recording_and_all_that_sounds_in_it(drawn: tuple[Clip, float]) -> None:
    clip, max_s = drawn
    pieces = pieces_of(clip, max_s=max_s)
    bounds = spans(pieces)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == pytest.approx(clip.duration_s, abs=1e-6)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))
    assert all(min(1.0, max_s / 2) <= piece.duration_s <= max_s for piece in pieces)
    assert len({piece.id for piece in pieces}) == len(pieces)
    for piece in pieces:
        for item in (*piece.annotation.events, *piece.annotation.notes):
            assert 0 <= item.onset_s <= item.offset_s <= piece.duration_s
    for kind, name in (("events", "label"), ("notes", "pitch")):
        for item in getattr(clip.annotation, kind):
            found = [
                (piece.start_s + other.onset_s, piece.start_s + other.offset_s)
                for piece in pieces
                for other in getattr(piece.annotation, kind)
                if getattr(other, name) == getattr(item, name)
            ]
            assert found, f"{item} is in no piece"
            # What is found lies end to end and is the item, but for slivers at cuts.
            assert all(abs(left[1] - right[0]) < 2e-6 for left, right in itertools.pairwise(found))
            assert found[0][0] - item.onset_s < SLIVER_S
            assert item.offset_s - found[-1][1] < SLIVER_S


@given(drawn=recordings())
def test_a_cut_is_never_crossed_by_more_than_another_would_be(drawn: tuple[Clip, float]) -> None:
    clip, max_s = drawn
    items = (*clip.annotation.events, *clip.annotation.notes)
    for start_s, end_s in spans(pieces_of(clip, max_s=max_s))[:-1] if items else []:

        def crossing(point_s: float) -> int:
            return sum(item.onset_s < point_s < item.offset_s for item in items)

        first_s, last_s = start_s + max(1.0, max_s / 2), min(start_s + max_s, clip.duration_s - 1.0)
        others = [time for item in items for time in (item.onset_s, item.offset_s) if first_s < time < last_s]
        assert crossing(end_s) <= min(map(crossing, [first_s, last_s, *others]))
