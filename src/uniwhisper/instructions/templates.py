"""English phrasings of the instruction of each task family; the first of each is the one used without paraphrases.

Slots: `{language}` is the spoken language followed by a space, or nothing; `{target}` the language to translate into;
`{text}` what the task is about: the question, the text to match, or the names of the attributes.

Phrasings speak of "the audio", "the clip" or "the recording" and name no class of sound, so none gives an answer away.
"""

from __future__ import annotations

from uniwhisper.types import Family

__all__ = ["ALL_ATTRIBUTES", "LABEL_QUESTION", "TEMPLATES"]

TEMPLATES: dict[Family, tuple[str, ...]] = {
    "asr": (
        "Transcribe the {language}speech.",
        "Write down the {language}words that are spoken.",
        "What is said in the {language}recording?",
        "Turn the {language}speech into text.",
        "Type out what the {language}speaker says.",
        "Give the {language}transcript of the clip.",
    ),
    "translation": (
        "Translate the {language}speech into {target}.",
        "Write in {target} what the {language}speaker says.",
        "Give the {target} translation of the {language}speech.",
        "What does the {language}recording say, in {target}?",
        "Put the {language}words into {target}.",
        "Listen to the {language}speech and write it in {target}.",
    ),
    "captioning": (
        "Describe the audio.",
        "Write a caption for the clip.",
        "What can be heard?",
        "Say briefly what the recording contains.",
        "Give a short description of the audio.",
        "Summarise what is heard in the clip.",
    ),
    "tagging": (
        "List what is heard.",
        "Tag the audio.",
        "Which labels describe the clip?",
        "Give keywords for the recording.",
        "Name everything that can be heard.",
        "What are the tags of the audio?",
    ),
    "classification": (
        "Classify the audio.",
        "Which class is heard?",
        "Give the one label that fits the clip.",
        "Name the class of the recording.",
        "What is it? Answer with one label.",
        "To which class does the audio belong?",
    ),
    "event_detection": (
        "List each event with its start and end.",
        "What happens, and when?",
        "Detect the events and their times.",
        "Write a timeline of the recording.",
        "Give onset and offset of everything heard.",
        "Mark when each event begins and ends.",
    ),
    "note_transcription": (
        "List each note with its start and end.",
        "Which notes are played, and when?",
        "Transcribe the notes.",
        "Write down every note and its times.",
        "Give pitch, onset and offset of the notes.",
        "Turn the recording into timed notes.",
    ),
    "question_answering": (
        "{text}",
        "Answer from the audio: {text}",
        "Question: {text}",
        "Listen, then answer. {text}",
        "About the clip: {text}",
        "{text} Answer by what is heard.",
    ),
    "audio_text_matching": (
        "Does this describe the audio? {text}",
        "Is this what is heard? {text}",
        "Does the clip match this text? {text}",
        "Do text and audio agree? {text}",
        "Is this true of the recording? {text}",
        "Does the text fit the clip? {text}",
    ),
    "attribute_prediction": (
        "What is the {text}?",
        "Name the {text}.",
        "Give the {text}.",
        "Identify the {text} in the clip.",
        "Which {text} is heard?",
        "Tell the {text} from the audio.",
    ),
}
"""At least five phrasings per family; most are below ten tokens, for the decoder reads them in every example."""

ALL_ATTRIBUTES: tuple[str, ...] = (
    "Give these attributes: {text}.",
    "Fill in: {text}.",
    "What are these in the clip: {text}?",
    "Name each of: {text}.",
    "Tell from the audio: {text}.",
    "Identify all of these: {text}.",
)
"""Phrasings of `attribute_prediction` where several attributes are asked at once."""

LABEL_QUESTION = "Can {text} be heard?"
"""The yes/no question made from a label."""
