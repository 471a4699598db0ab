"""Text: what is read in a prompt, what is written of labels, unknown words, and what the encoder makes of order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from echofm.clip import LEFT_VENTRICLE, NOT_ANNOTATED, ClipBatch
from echofm.errors import EchofmError
from echofm.shards.carry import emptying_T
from synth.condition import Condition
from synth.condition_field import Sizes
from synth.text.field import Text
from synth.text.grammar import (
    NUMBERED,
    PHRASES,
    VOCABULARY,
    UnknownWord,
    facets_of,
    phrases_of,
    prompt_of,
    unknown_words,
)
from synth.text.prompt import facets, prompts, time_points

LABELS = {"ef_percent": 35.0, "edv_ml": 150.0, "heart_rate_bpm": 75.4, "image_quality": "poor"}


def batch_of(labels: Mapping[str, Any], *, clips: int, frames: int, emptying: float = 1.0) -> ClipBatch:
    return ClipBatch(
        video_BCTHW=torch.zeros(clips, 1, frames, 2, 2),
        sector_BHW=torch.ones(clips, 2, 2, dtype=torch.bool),
        valid_BT=torch.ones(clips, frames, dtype=torch.bool),
        frame_time_s_BT=torch.zeros(clips, frames),
        draw_B=torch.arange(clips),
        clip_ids=["c"] * clips,
        patient_ids=["p"] * clips,
        labels=[labels] * clips,
        views=["A4C"] * clips,
        emptying_BT=torch.full((clips, frames), emptying),
    )


def test_free_order_and_synonyms_are_read_alike() -> None:
    expected = {"view": "A4C", "time point": "ES", "ejection fraction": 35, "image quality": "poor"}
    for text in (
        "apical four-chamber view, end-systole, ejection fraction 35 %, poor image quality",
        "Poor quality; EF of 35.4 percent: the 4CH at end systole.".replace("EF of", "ejection fraction of"),
        "ES A4C EF 35 low image quality",
    ):
        assert facets_of(text) == expected and not unknown_words(text)
    assert facets_of("mildly reduced ejection fraction") == {"ejection fraction": "mildly reduced"}
    assert facets_of("dilated left ventricle, tachycardia") == {"size": "dilated", "heart rate": "fast"}


@pytest.mark.parametrize(
    ("facet", "value", "phrase"),
    [
        (facet, value, phrase)
        for facet, values in PHRASES.items()
        for value, phrases in values.items()
        for phrase in phrases
    ]
    + [(facet, 62, form.format(62)) for facet, forms in NUMBERED.items() for form in forms],
)
def test_every_phrase_means_its_value_and_nothing_else(facet: Any, value: str | int, phrase: str) -> None:
    assert facets_of(phrase) == {facet: value} and phrase in phrases_of(facet, value)


def test_an_unknown_word_is_named_with_the_nearest() -> None:
    assert unknown_words("apicl four chamber, end-sistole") == {"apicl": "apical", "sistole": "systole"}
    field = Text(Sizes(width=8, latent=(1, 2, 2), words=VOCABULARY))
    with pytest.warns(UnknownWord, match="'apicl' is not known.*'apical'"):
        field.check(Condition.of(1, frames=1, text="apicl view"))
    with pytest.warns(UnknownWord, match="hello"), pytest.raises(EchofmError, match="0 known words"):
        field.check(Condition.of(1, frames=1, text="hello"))
    with pytest.raises(EchofmError, match="33 known words"):
        field.check(Condition.of(1, frames=1, text="view " * 33))


def test_what_is_written_of_labels() -> None:
    whole = facets(LABELS, view="A4C", still=False)
    assert whole == {
        "view": ["A4C"], "image quality": ["poor"], "ejection fraction": ["reduced", 35], "size": ["dilated"],
        "heart rate": ["normal", 75],
    }  # fmt: skip
    still = facets(LABELS, view="A4C", time_point="ES", still=True)
    assert still == {"view": ["A4C"], "time point": ["ES"], "image quality": ["poor"]}
    assert facets({"ef_percent": math.nan}, view="other", still=False) == {}
    for limit, word in ((40, "reduced"), (49, "mildly reduced"), (50, "preserved")):
        assert facets({"ef_percent": limit}, view=None, still=False)["ejection fraction"][0] == word
    assert prompt_of({"view": "A2C", "ejection fraction": 35}) == "apical two-chamber view, ejection fraction 35 %"


def test_prompts_are_each_clips_own_and_true() -> None:
    """The same for the same clip, whatever stands beside it; every order and omission occurs."""
    batch = batch_of(LABELS, clips=300, frames=4, emptying=math.nan)
    written = prompts(batch)
    assert written[10:20] == prompts(batch[10:20]) and len(set(written)) > 250
    allowed = facets(LABELS, view="A4C", still=False)
    first = set()
    for text in written:
        found = facets_of(text or "")
        assert all(value in allowed[facet] for facet, value in found.items())
        first |= {facet for facet in allowed if text and text.split(",")[0] in
                  [phrase for value in allowed[facet] for phrase in phrases_of(facet, value)]}  # fmt: skip
    assert first == set(allowed)
    shares = [sum(facet in facets_of(text or "") for text in written) / len(written) for facet in allowed]
    assert all(0.75 < share < 0.95 for share in shares)


def test_time_points_are_of_single_frames_at_the_ends() -> None:
    for emptying, point in ((0.1, "ED"), (0.5, None), (0.9, "ES"), (math.nan, None)):
        assert time_points(batch_of({}, clips=1, frames=1, emptying=emptying)) == [point]
    assert time_points(batch_of({}, clips=1, frames=2)) == [None]


def test_emptying_is_by_area_of_the_masks_there_are() -> None:
    mask_THW = torch.full((4, 10, 10), NOT_ANNOTATED, dtype=torch.uint8).numpy()
    for frame, rows in ((0, 8), (1, 6), (3, 4)):
        mask_THW[frame] = 0
        mask_THW[frame, :rows] = LEFT_VENTRICLE
    assert emptying_T(mask_THW).tolist() == pytest.approx([0, 0.5, math.nan, 1], nan_ok=True)
    for none in (mask_THW[2:3], mask_THW[2:], mask_THW[[0, 0]]):
        assert torch.tensor(emptying_T(none)).isnan().all()


def test_the_encoder_sees_words_and_numbers_and_pads_do_not_count() -> None:
    torch.manual_seed(0)
    field = Text(Sizes(width=8, latent=(1, 2, 2), words=VOCABULARY)).eval()
    texts = ["EF 30 %", "EF 31 %", "EF 30", None]
    tokens_BND = field(Condition(texts=texts))
    assert tokens_BND.shape == (4, 32, 8) and torch.equal(tokens_BND[3], field.null)
    assert (tokens_BND[0, 1] - tokens_BND[1, 1]).abs().max() > 1e-4
    torch.testing.assert_close(field(Condition(texts=texts[:1])), tokens_BND[:1])
    assert torch.equal(tokens_BND[2, 2:], field.null[2:])
    tokens_BND.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in field.parameters())
