"""Canaries: training clips, transformed as a generator that memorises would, planted to see what the audit catches.

A recall without such plants means nothing: an encoder that sees no identity finds no copy, and its clean result is
worth nothing. Each kind has strengths from faithful to far, and recall is told of each.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence

import av
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.ndimage
import scipy.stats
from PIL import Image

from echofm.clip import Clip
from echofm.conform import grey_bt601
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import Estimate
from synth.audit.result import CanaryRecall
from synth.audit.sets import KIND, SOURCE, STRENGTH, text
from synth.audit.statistics.calibrate import at_most

Frames = npt.NDArray[np.uint8]

# Copies in these are what no usable audit may miss: recall under this part on any of them voids a clean result.
FAITHFUL = ("exact", "re-encoded", "re-encoded as video")
REQUIRED_RECALL = 0.99


def exact(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """The clip itself."""
    return frames_TCHW


def re_encoded(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Every frame through JPEG; strength is 100 - quality."""
    return np.stack([[_through_jpeg(channel, 100 - round(strength)) for channel in frame] for frame in frames_TCHW])


def re_encoded_as_video(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """The clip through MPEG-4 and back, frames predicted from frames; strength is the quantiser, 1 to 31."""
    stream = io.BytesIO()
    rgb_TCHW = np.repeat(frames_TCHW, 3, axis=1) if frames_TCHW.shape[1] == 1 else frames_TCHW
    height, width = rgb_TCHW.shape[2:]
    # The codec takes even sizes alone.
    padded = np.pad(rgb_TCHW, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    with av.open(stream, "w", format="avi") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = *padded.shape[2:], "yuv420p"
        quantiser = str(max(1, round(strength)))
        video.options = {"qmin": quantiser, "qmax": quantiser, "flags": "+bitexact"}
        video.thread_count = 1
        for frame_CHW in padded:
            picture = np.ascontiguousarray(np.moveaxis(frame_CHW, 0, 2))
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
    stream.seek(0)
    with av.open(stream, "r") as written:
        decoded = [frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)]
    back_TCHW = np.moveaxis(np.stack(decoded)[:, :height, :width].astype(np.uint8), 3, 1)
    return grey_bt601(back_TCHW) if frames_TCHW.shape[1] == 1 else np.ascontiguousarray(back_TCHW)


def noise(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """White noise of standard deviation `strength` grey levels, clipped to the range."""
    return _bytes(frames_TCHW + strength * rng.standard_normal(frames_TCHW.shape, np.float32))


def gain(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Brighter or darker (either sign by chance) by `strength` grey levels."""
    return _bytes(frames_TCHW.astype(np.float32) + strength * rng.choice([-1, 1]))


def crop(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Zoomed in about the centre so that the part `strength` of each side is lost."""
    size = np.array(frames_TCHW.shape[2:])
    scale = np.array([1 - strength] * 2)
    offset = (size - 1) / 2 * (1 - scale)
    planes = frames_TCHW.reshape(-1, *size)
    zoomed = [scipy.ndimage.affine_transform(plane, scale, offset, order=1, mode="nearest") for plane in planes]
    return np.stack(zoomed).reshape(frames_TCHW.shape)


def flip(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Left and right exchanged."""
    return np.ascontiguousarray(frames_TCHW[..., ::-1])


def shift_in_time(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Started later by the part `strength` of the clip, the beginning put at the end."""
    return np.roll(frames_TCHW, -round(strength * len(frames_TCHW)), axis=0)


def speed(frames_TCHW: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Played faster by the part `strength`, looped to the same length."""
    frames = len(frames_TCHW)
    return frames_TCHW[np.round(np.arange(frames) * (1 + strength)).astype(int) % frames]


Transform = Callable[[Frames, float, np.random.Generator], Frames]
KINDS: dict[str, tuple[Transform, tuple[float, ...]]] = {
    "exact": (exact, (0.0,)),
    "re-encoded": (re_encoded, (10.0, 50.0)),
    "re-encoded as video": (re_encoded_as_video, (4.0, 10.0)),
    "noise": (noise, (4.0, 12.0, 32.0)),
    "gain": (gain, (10.0, 30.0)),
    "crop": (crop, (0.03, 0.08, 0.15)),
    "flip": (flip, (1.0,)),
    "shift in time": (shift_in_time, (0.1, 0.3)),
    "speed": (speed, (0.1, 0.3)),
}
IN_BETWEEN, NEW_BEAT, SWAP = "in-between", "new beat", "swap"
IN_BETWEEN_PARTS = (0.1, 0.25, 0.5)
STRENGTHS = {
    "exact": "none",
    "re-encoded": "100 - JPEG quality",
    "re-encoded as video": "MPEG-4 quantiser",
    "noise": "grey levels",
    "gain": "grey levels",
    "crop": "part of each side lost",
    "flip": "left and right exchanged",
    "shift in time": "part of the clip",
    "speed": "faster by this part",
    IN_BETWEEN: "part of a second patient",
    NEW_BEAT: "another clip of the patient",
    SWAP: "its motion on a held-out heart",
}


def plan() -> list[tuple[str, float]]:
    """Kind and strength of every canary made from one clip, in a fixed order."""
    single = [(kind, strength) for kind, (_, strengths) in KINDS.items() for strength in strengths]
    return single + [(IN_BETWEEN, part) for part in IN_BETWEEN_PARTS]


def transformed(clip: Clip, kind: str, strength: float, *, seed: int) -> Clip:
    """The clip changed in one way. Pixels outside the sector stay zero; the same clip and seed give the same canary."""
    transform, _ = KINDS[kind]
    own = int.from_bytes(hashlib.sha256(f"{seed}\0{kind}\0{strength}\0{clip.clip_id}".encode()).digest()[:8], "big")
    frames = transform(clip.frames_TCHW, strength, np.random.default_rng(own))
    sector = np.ascontiguousarray(clip.sector_HW[:, ::-1]) if kind == "flip" else clip.sector_HW
    # Some kinds crop or flip, so the beams lie elsewhere.
    return clip.replace(frames_TCHW=frames * sector, sector_HW=sector, fan=None)


def in_between(clip: Clip, other: Clip, part: float) -> Clip:
    """The grey values of a second patient's clip of the same size mixed in by `part`, looped to the clip's length."""
    looped = other.frames_TCHW[np.arange(len(clip.frames_TCHW)) % len(other.frames_TCHW)]
    mixed = _bytes((1 - part) * clip.frames_TCHW.astype(np.float32) + part * looped)
    return clip.replace(frames_TCHW=mixed * clip.sector_HW)


def _bytes(values: npt.NDArray[np.floating]) -> Frames:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _through_jpeg(plane_HW: Frames, quality: int) -> Frames:
    stream = io.BytesIO()
    Image.fromarray(plane_HW).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def power(
    canaries: EmbeddingTable,
    p_C: npt.NDArray[np.float64],
    neighbour_C: npt.NDArray[np.int64],
    train: EmbeddingTable,
    *,
    alpha: float,
) -> list[CanaryRecall]:
    """Recall of each kind and strength, in the order in which they were planted.

    p_C: of each canary, against the null of the synthetic clips. neighbour_C: its nearest training row, -1 for none.
    Raises EchofmError where the table does not say what was planted, or names clips that the training set lacks.
    """
    require_marks(canaries)
    patient_of = dict(zip(text(train.clip_id).tolist(), text(train.patient_id).tolist()))
    sources = text(canaries.rows[SOURCE].to_numpy(object))
    unknown = sum(each not in patient_of for each in sources.tolist())
    if unknown:
        raise EchofmError(f"{unknown} canaries copy clips that are not in the training set; plant them again")
    copied = np.array([patient_of[each] for each in sources.tolist()])
    right = (text(train.patient_id)[neighbour_C] == copied) & (neighbour_C >= 0)
    kinds, strengths = text(canaries.rows[KIND].to_numpy(object)), canaries.rows[STRENGTH].to_numpy(float)
    rows = []
    for kind, strength in dict.fromkeys(zip(kinds.tolist(), strengths.tolist())):
        chosen = (kinds == kind) & (strengths == strength)
        p = p_C[chosen]
        rows.append(
            CanaryRecall(
                kind=kind,
                strength=strength,
                planted=len(p),
                recall=_part(at_most(p, alpha)),
                recall_at_a_tenth=_part(at_most(p, alpha / 10)),
                right_patient=float(right[chosen].mean()),
            )
        )
    return rows


def _part(caught: npt.NDArray[np.bool_]) -> Estimate:
    found = scipy.stats.binomtest(int(caught.sum()), len(caught)).proportion_ci(method="wilson")
    return Estimate(value=float(caught.mean()), low=float(found.low), high=float(found.high))


def require_marks(canaries: EmbeddingTable) -> None:
    """Raises EchofmError where a table of canaries does not say what they are."""
    missing = [name for name in (KIND, STRENGTH, SOURCE) if name not in canaries.rows]
    if missing:
        raise EchofmError(f"the table of canaries lacks the columns {', '.join(missing)}; see docs/audit.md")
    strengths = pd.to_numeric(canaries.rows[STRENGTH].astype(object), errors="coerce")
    unmarked = int((canaries.rows[KIND].isna() | strengths.isna()).sum())
    if unmarked:
        raise EchofmError(
            f"{unmarked} canaries have no {KIND} or no number as {STRENGTH}; "
            "say what each is (0 where a kind has no strength)"
        )


def sees_copies(recalls: Sequence[CanaryRecall]) -> bool | None:
    """Whether plain copies are caught often enough for a clean result to mean anything.

    None where exact copies or re-encoded ones were not planted: an exact one alone is caught by any encoder.
    """
    faithful = [each for each in recalls if each.kind in FAITHFUL]
    if any(each.recall.value < REQUIRED_RECALL for each in faithful):
        return False
    kinds = {each.kind for each in faithful}
    return True if "exact" in kinds and len(kinds) > 1 else None
