"""The fan's geometry: its mask, and where it lies once its image is cut, padded, resized or turned over."""

from __future__ import annotations

import numpy as np
from fans import fans, is_that_of
from hypothesis import given, settings

from echofm.clip import Clip
from echofm.conform import conform
from echofm.fan import Fan

SHAPE = (100, 120)


@settings(deadline=None)
@given(fans())
def test_the_mask_is_that_of_angles_and_radii(fan: Fan) -> None:
    assert is_that_of(fan.mask(SHAPE), fan)


@settings(deadline=None)
@given(fans())
def test_a_fan_upside_down(fan: Fan) -> None:
    turned = fan.upside_down(SHAPE[0])
    assert is_that_of(turned.mask(SHAPE)[::-1], fan) and is_that_of(turned.mask(SHAPE), turned)
    assert np.allclose(
        [turned.upside_down(SHAPE[0]).first_rad, turned.upside_down(SHAPE[0]).far], [fan.first_rad, fan.far]
    )


@settings(deadline=None, max_examples=40)
@given(fans())
def test_the_fan_goes_with_its_clip_to_another_size(fan: Fan) -> None:
    sector = fan.mask(SHAPE)
    if not sector.any():
        return
    clip = Clip(frames_TCHW=np.uint8(200) * sector[None, None], sector_HW=sector, clip_id="c", patient_id="p", fan=fan)
    small = conform(clip, size=64)
    differ = small.fan.mask((64, 64)) != (small.frames_TCHW[0, 0] > 100)
    # Half-lit pixels lie on the outline alone.
    assert differ.sum() <= 0.6 * 4 * 64
    assert conform(clip).fan == fan and conform(small, size=64).fan == small.fan
