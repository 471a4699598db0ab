"""An encoder under its contract, on a few clips, before any figure: pixels, channels, time, gain, speckle.

Shapes: B clips, C channels, T frames, H rows, W columns, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from echofm.embed.inputs import Input, Item
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.shards.windows import Windowing, cut_windows, joined
from probe.result import Check

# Clips looked at; read are enough to meet so many of different patients.
_CLIPS, _LOOKED_AT = 8, 64
# Changes are told in units of the distance between two clips. Round-off moves features by 1e-6 of it.
_UNMOVED = 1e-3
# A healthy encoder may move by more than one under a quarter more gain, in a direction that a probe learns to ignore.
_MUCH, _TOO_MUCH = 1.0, 10.0
_GAIN, _SPECKLE = 1.25, 0.25


def check_encoder_on(encoder: AnyEncoder, source: Input, *, device: torch.device | str = "cpu") -> list[Check]:
    """`check_encoder` on clips of 8 different patients of a source, where it has them."""
    picked: dict[str, Item] = {}
    for item in readable(source, range(0, len(source), max(1, len(source) // _LOOKED_AT))):
        picked.setdefault(item.clip.patient_id, item)
        if len(picked) == _CLIPS:
            break
    return check_encoder(encoder, windows_of(encoder, picked.values(), device=device))


def readable(source: Input, indices: range) -> Iterator[Item]:
    """Readable clips alone: what cannot be read is told when it is embedded."""
    return (result for result in source.read(indices) if isinstance(result, Item))


def windows_of(encoder: AnyEncoder, items: Iterable[Item], *, device: torch.device | str = "cpu") -> torch.Tensor:
    """The middle window of each clip as the encoder gets it, (B, C, T, H, W) in the contract's range."""
    contract = encoder.contract
    windowing = Windowing(length=contract.frames, frame_rate_hz=contract.frame_rate_hz)
    batches = []
    for item in items:
        clip = item.clip
        windows = windowing.spread(0, clip.clip_id, clip.frame_time_s, len(clip.frames_TCHW), count=1)
        batches.append(cut_windows(clip, windows))
    if not batches:
        raise EchofmError("no clip can be read, so the encoder cannot be looked at")
    low, high = contract.value_range
    return joined(batches).to(device).video_BCTHW * (high - low) + low


def check_encoder(encoder: AnyEncoder, video_BCTHW: torch.Tensor, *, seed: int = 0) -> list[Check]:
    """Look at an encoder through clips that are about to be embedded, at best 8 of different patients.

    Pixels against the contract first; where they do not fit, nothing else is looked at, since nothing would mean
    anything.
    """
    try:
        encoder.contract.check(_as_contract(encoder, video_BCTHW))
    except EchofmError as error:
        return [Check(name="value range", passed=False, says=f"the clips do not fit the encoder's contract: {error}")]
    checks = [_value_range(encoder, video_BCTHW), _background(encoder, video_BCTHW), _channels(encoder, video_BCTHW)]
    features_BD = _features(encoder, video_BCTHW)
    if not torch.isfinite(features_BD).all():
        says = "the encoder gives features that are not finite for clips within its contract; is it damaged?"
        return [*checks, Check(name="finite features", passed=False, says=says)]
    if len(features_BD) < 2:
        says = "one clip only: how much a change moves its features cannot be told"
        return [*checks, Check(name="time", passed=None, says=says)]
    apart = max(float(torch.pdist(features_BD).median()), 1e-12)
    checks.append(_alive(features_BD, apart))
    if checks[-1].passed is False:
        return checks
    low, high = encoder.contract.value_range
    generator = torch.Generator().manual_seed(seed)

    def moved(change: Callable[[torch.Tensor], torch.Tensor]) -> float:
        changed = _features(encoder, change(video_BCTHW))
        return float((changed - features_BD).norm(dim=1).median() / apart)

    order = torch.randperm(video_BCTHW.shape[2], generator=generator)
    checks.append(_time(encoder, moved(lambda x: x[:, :, order]), moved(lambda x: x.flip(2))))
    checks.append(_robust("gain", moved(lambda x: _gained(x, low, high)), f"{_GAIN - 1:.0%} more gain"))
    checks.append(_robust("speckle", moved(lambda x: _respeckled(x, low, high, seed)), "other speckle"))
    return checks


def _as_contract(encoder: AnyEncoder, video_BCTHW: torch.Tensor) -> torch.Tensor:
    grey = encoder.contract.channels == 3 and video_BCTHW.ndim == 5 and video_BCTHW.shape[1] == 1
    return video_BCTHW.expand(-1, 3, -1, -1, -1) if grey else video_BCTHW


def _features(encoder: AnyEncoder, video_BCTHW: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.encode(video_BCTHW).video_BD.float().cpu()


def _value_range(encoder: AnyEncoder, video_BCTHW: torch.Tensor) -> Check:
    low, high = encoder.contract.value_range
    least, greatest = (float(value) for value in video_BCTHW.aminmax())
    says = f"pixels run from {least:.3g} to {greatest:.3g}, the contract's range is [{low:g}, {high:g}]"
    if unused := not (greatest - least) / (high - low) > 0.1:
        says += ": nearly all of it is unused, as after a division too many"
    return Check(name="value range", passed=not unused, says=says, figures={"least": least, "greatest": greatest})


def _background(encoder: AnyEncoder, video_BCTHW: torch.Tensor) -> Check:
    """Outside the sector echoes are black; a normalisation or an inversion shows there first."""
    low, high = encoder.contract.value_range
    unit = (video_BCTHW.float() - low) / (high - low)
    mean, black = float(unit.mean()), float((unit < 0.02).float().mean())
    inverted = float((unit > 0.98).float().mean()) > 0.5
    says = f"plain pixels: mean {mean:.3f} of the range, {black:.0%} black"
    if inverted:
        says = "most pixels are white: the clips look inverted or normalised"
    passed = not inverted and 0 < mean < 0.9
    return Check(name="normalisation", passed=passed, says=says, figures={"mean": mean, "black": black})


def _channels(encoder: AnyEncoder, video_BCTHW: torch.Tensor) -> Check:
    contract, name = encoder.contract, "channel order"
    if video_BCTHW.shape[1] == 1:
        says = "grey, repeated over three channels" if contract.channels == 3 else "grey"
        return Check(name=name, passed=True, says=says)
    coloured = float((video_BCTHW.amax(1) - video_BCTHW.amin(1)).mean())
    if coloured < 1e-3 * (contract.value_range[1] - contract.value_range[0]):
        return Check(name=name, passed=True, says="three equal channels", figures={"coloured": coloured})
    swapped = float((_features(encoder, video_BCTHW.flip(1)) - _features(encoder, video_BCTHW)).norm(dim=1).median())
    says = f"colour as stored, red first; read blue first the features move by {swapped:.3g}"
    if grey_only := contract.colour == "grey_bt601":
        says = "the contract asks for grey, the clips are coloured; read them with channels=1"
    figures = {"coloured": coloured, "moved_by_swapping": swapped}
    return Check(name=name, passed=not grey_only, says=says, figures=figures)


def _alive(features_BD: torch.Tensor, apart: float) -> Check:
    relative = apart / max(float(features_BD.norm(dim=1).median()), 1e-12)
    says = f"two clips lie {relative:.2g} of a feature vector's length apart"
    if dead := relative < 1e-4:
        says = f"the encoder is collapsed: it gives all clips one answer ({says})"
    return Check(name="answers", passed=not dead, says=says, figures={"distance_between_clips": relative})


def _time(encoder: AnyEncoder, shuffled: float, flipped: float) -> Check:
    says = f"shuffled frames move its clip vector by {shuffled:.2g}, reversed ones by {flipped:.2g} of the distance "
    says += "between two clips"
    still = max(shuffled, flipped) < _UNMOVED
    passed: bool | None = not still
    if not encoder.sees_time:
        # Not a fault of it, unless it claims otherwise; the report must say so all the same.
        passed = None if still else True
        says = f"an image model: its clip vector is the mean over frames and knows nothing of their order ({says})"
    elif still:
        says = f"the encoder does not see time, although it is used as a video model: {says}"
    figures = {"moved_by_shuffling": shuffled, "moved_by_reversing": flipped}
    return Check(name="time", passed=passed, says=says, figures=figures)


def _robust(name: str, moved: float, what: str) -> Check:
    stated = f"{what} moves the features by {moved:.2g} of the distance between two clips"
    if moved > _TOO_MUCH:
        stated = f"the features are mostly about {name}: {stated}"
    elif moved > _MUCH:
        stated += ", more than another patient does"
    return Check(name=name, passed=moved <= _TOO_MUCH, says=stated, figures={"moved": moved})


def _gained(video_BCTHW: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return ((video_BCTHW - low) * _GAIN + low).clamp(low, high)


def _respeckled(video_BCTHW: torch.Tensor, low: float, high: float, seed: int) -> torch.Tensor:
    """Multiplied by noise of a few pixels' grain, the same in every channel, other in every frame."""
    shape = (video_BCTHW.shape[0], 1, *video_BCTHW.shape[2:])
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
    grain = F.avg_pool3d(noise, (1, 3, 3), stride=1, padding=(0, 1, 1)) * 3
    factor = (1 + _SPECKLE * grain.to(video_BCTHW.device)).clamp_min(0)
    return ((video_BCTHW - low) * factor + low).clamp(low, high)
