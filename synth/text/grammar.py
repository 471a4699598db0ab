"""What a prompt may say: facets of an echo, each value's phrases, and how words are read. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

Facet = Literal["view", "time point", "ejection fraction", "image quality", "size", "heart rate"]
Value = str | int


class UnknownWord(UserWarning):
    """A prompt holds a word that is not known, and that is left out."""


# The first phrase of a value is the one that commands write.
PHRASES: Mapping[Facet, Mapping[str, Sequence[str]]] = {
    "view": {
        "A4C": ("apical four-chamber view", "four-chamber view", "apical 4-chamber view", "A4C", "4CH"),
        "A2C": ("apical two-chamber view", "two-chamber view", "apical 2-chamber view", "A2C", "2CH"),
        "A3C": ("apical three-chamber view", "three-chamber view", "apical long-axis view", "A3C", "3CH"),
        "PLAX": ("parasternal long-axis view", "PLAX", "parasternal long axis"),
        "PSAX": ("parasternal short-axis view", "PSAX", "parasternal short axis"),
    },
    "time point": {
        "ED": ("end-diastole", "end-diastolic frame", "at end-diastole", "ED"),
        "ES": ("end-systole", "end-systolic frame", "at end-systole", "ES"),
    },
    "ejection fraction": {
        "reduced": ("reduced ejection fraction", "low ejection fraction", "reduced EF", "low EF"),
        "mildly reduced": ("mildly reduced ejection fraction", "borderline ejection fraction", "mildly reduced EF"),
        "preserved": ("preserved ejection fraction", "normal ejection fraction", "preserved EF", "normal EF"),
    },
    "image quality": {
        "good": ("good image quality", "high image quality", "good quality"),
        "medium": ("medium image quality", "moderate image quality", "medium quality"),
        "poor": ("poor image quality", "low image quality", "poor quality"),
    },
    "size": {
        "small": ("small left ventricle", "small ventricle", "small LV"),
        "normal": ("normal-sized left ventricle", "normal left ventricle", "normal LV"),
        "dilated": ("dilated left ventricle", "enlarged left ventricle", "large left ventricle", "dilated LV"),
    },
    "heart rate": {
        "slow": ("slow heart rate", "bradycardia", "low heart rate"),
        "normal": ("normal heart rate", "normal rate"),
        "fast": ("fast heart rate", "tachycardia", "high heart rate"),
    },
}
# With {} the number: percent, beats per minute.
NUMBERED: Mapping[Facet, Sequence[str]] = {
    "ejection fraction": (
        "ejection fraction {} %",
        "EF {} %",
        "ejection fraction of {} percent",
        "ejection fraction {}",
        "EF {}",
    ),
    "heart rate": ("heart rate {} beats per minute", "{} bpm", "heart rate of {} bpm", "heart rate {}", "HR {}"),
}
# May stand anywhere and say nothing.
_FILLING = "a an and at in is of on the this with clip echo echocardiogram frame image ultrasound video"
_WORD = re.compile(r"[a-z0-9]+|%")


def words_of(text: str) -> list[str]:
    """Lower-case words, numbers and %; punctuation and hyphens separate."""
    return _WORD.findall(re.sub(r"(\d+)\.\d+", r"\1", text.lower()))


def _vocabulary() -> tuple[str, ...]:
    phrases = [each for values in PHRASES.values() for phrases in values.values() for each in phrases]
    phrases += [each.replace("{}", "") for forms in NUMBERED.values() for each in forms]
    return tuple(sorted({word for each in phrases for word in words_of(each)} | {*_FILLING.split()}))


VOCABULARY = _vocabulary()
"""Every word that is known; numbers beside."""


def unknown_words(text: str, *, known: Sequence[str] = VOCABULARY) -> dict[str, str]:
    """Of a prompt's words those that are no number and not known, each with the known one written most alike."""
    return {
        word: difflib.get_close_matches(word, known, n=1, cutoff=0.0)[0]
        for word in words_of(text)
        if word not in known and not word.isdigit()
    }


def facets_of(text: str) -> dict[Facet, Value]:
    """What a prompt asks for, by facet; a number where it gives one. The longest phrase is taken first."""
    left, found = f" {' '.join(words_of(text))} ", {}
    for phrase, facet, value in _PHRASES:
        pattern = " " + " ".join(words_of(phrase.replace("{}", "987"))).replace("987", r"(\d+)") + "(?= )"
        match = re.search(pattern, left)
        if match is not None and facet not in found:
            found[facet] = int(match.group(1)) if value is None else value
            left = left[: match.start()] + " ." + left[match.end() :]
    return found


def _all_phrases() -> list[tuple[str, Facet, str | None]]:
    every: list[tuple[str, Facet, str | None]] = [
        (phrase, facet, value)
        for facet, values in PHRASES.items()
        for value, phrases in values.items()
        for phrase in phrases
    ]
    every += [(form, facet, None) for facet, forms in NUMBERED.items() for form in forms]
    return sorted(every, key=lambda each: -len(words_of(each[0])))


_PHRASES = _all_phrases()


def phrases_of(facet: Facet, value: Value) -> list[str]:
    """Every way to say this value, the usual one first."""
    if isinstance(value, str):
        return list(PHRASES[facet][value])
    return [form.format(value) for form in NUMBERED[facet]]


def prompt_of(facets: Mapping[Facet, Value]) -> str:
    """The usual phrases, in the order given."""
    return ", ".join(phrases_of(facet, value)[0] for facet, value in facets.items())
