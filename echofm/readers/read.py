"""read_clip: one file in, one de-identified clip out."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from echofm.clip import Clip
from echofm.errors import EchofmError, UnreadableFile
from echofm.ids import IdKey, load_key
from echofm.readers.decoded import Decoded
from echofm.readers.decord_video import Decoder
from echofm.readers.limits import Limits
from echofm.readers.opening import open_plain
from echofm.readers.pages import without_pages
from echofm.readers.patients import whose
from echofm.readers.refused import Refused
from echofm.readers.source import Row
from echofm.readers.square import squared, stretched_mask

if TYPE_CHECKING:
    from echofm.readers.sector import Sector

# Up to here a file is held in memory and read once; above, it is read twice, the second time from the page cache.
_IN_MEMORY_BYTES = 256_000_000


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A file's frames before any was left out and its pixels were made square; `first` is the first that is left."""

    frames: int
    height: int
    width: int
    first: int


def read_clip(
    path: str | os.PathLike[str],
    *,
    channels: int = 1,
    key: IdKey | None = None,
    patient: str | None = None,
    study: str | None = None,
    by_study: bool = False,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    keep_outside: bool = False,
    decoder: Decoder = "pyav",
) -> Clip:
    """Read one echo: a video, GIF, DICOM, NIfTI, MetaImage, PNG or JPEG, told apart by content, or a folder of frames.

    Grey is BT.601 luma (echofm.readers.luma) in every format; pixels are square (echofm.readers.square). All outside
    the ultrasound sector are zero in every frame; a file in which no sector is found is refused. The number of frames
    is what was decoded.

    Parameters
    ----------
    channels: 1 grey, 3 RGB. key: hashes the ids; this user's own key by default.
    patient: the patient's name in the source; by default DICOM's PatientID, else StudyInstanceUID, else the stem.
    study: the study's name in the source; by default DICOM's StudyInstanceUID, else there is none.
    by_study: take StudyInstanceUID for the patient where `patient` is not given, whatever PatientID says.
    keep_outside: leave the pixels outside the sector as they are, and take the whole frame for the sector where none
        is found. Only for images that were never a patient's (the phantom): burned-in names stay in.
    decoder: of videos: "decord" or "decord-gpu" give the same frames as "pyav", or refuse.

    Raises UnreadableFile with the file's hashed id and the reason; neither names the path or quotes a tag.
    """
    return _read(
        path,
        channels=channels,
        key=key,
        patient=patient,
        study=study,
        by_study=by_study,
        limits=limits,
        keep_outside=keep_outside,
        decoder=decoder,
    )[0]


def read_row(
    row: Row,
    *,
    channels: int = 1,
    key: IdKey | None = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    keep_outside: bool = False,
    decoder: Decoder = "pyav",
) -> Clip:
    """Read a data set's row: its file, then what the set says about it, then the set's own truth."""
    clip, stored = _read(
        row.path,
        channels=channels,
        key=key,
        patient=row.patient,
        study=row.study,
        by_study=row.patient_from == "study",
        limits=limits,
        keep_outside=keep_outside,
        decoder=decoder,
    )
    clip = clip.replace(view=row.view, kind=row.kind or clip.kind, labels=dict(row.labels))
    if clip.frame_time_s is None and row.frame_rate_hz is not None:
        clip = clip.replace(frame_time_s=np.arange(len(clip.frames_TCHW)) / row.frame_rate_hz)
    return clip if row.add_truth is None else _with_truth(clip, row.add_truth, stored)


def _read(
    path: str | os.PathLike[str],
    *,
    channels: int,
    key: IdKey | None,
    patient: str | None,
    study: str | None,
    by_study: bool,
    limits: Limits,
    keep_outside: bool,
    decoder: Decoder,
) -> tuple[Clip, _Stored]:
    """`read_clip`, and the frames as the file stores them, to which a set's own truth refers."""
    if channels not in (1, 3):
        raise EchofmError(f"channels={channels}: a clip has 1 (grey) or 3 (RGB)")
    key = key or load_key()
    path = Path(path)
    try:
        digest, decoded = _decode(path, channels=channels, limits=limits, decoder=decoder)
        name, patient_by = whose(path, given=patient, tag=decoded.patient, study=decoded.study, by_study=by_study)
        frames, _, height, width = decoded.frames_TCHW.shape
        decoded, first = (decoded, 0) if keep_outside else without_pages(decoded)
        decoded = squared(decoded, limits=limits)
        frames_TCHW, sector = _sectored(decoded, keep_outside=keep_outside)
    except Refused as refused:
        raise UnreadableFile(key.file(path), refused.reason, refused.kind) from None
    except (MemoryError, RecursionError) as error:
        raise UnreadableFile(key.file(path), f"decoding it took too much ({type(error).__name__})") from None
    from echofm.readers.kinds import kind_by_pixels

    # By its tag a study is unique, so that files of one study under several PatientIDs show; a source numbers its own.
    owner = "" if patient_by in ("tag", "placeholder") and not study else name
    study = study or decoded.study
    clip = Clip(
        frames_TCHW=frames_TCHW,
        sector_HW=sector.mask_HW,
        fan=sector.fan,
        lit_outside=sector.lit_outside,
        dropped_frames=frames - len(frames_TCHW),
        clip_id=key.clip(digest),
        patient_id=key.patient(name),
        study_id=key.study(owner, study) if study else None,
        patient_by=patient_by,
        frame_time_s=decoded.frame_time_s,
        pixel_spacing_mm=decoded.pixel_spacing_mm,
        kind=decoded.kind or kind_by_pixels(frames_TCHW, decoded.chroma_HW, sector.mask_HW),
    )
    return clip, _Stored(frames=frames, height=height, width=width, first=first)


def _with_truth(clip: Clip, add_truth: Callable[[Clip], Clip], stored: _Stored) -> Clip:
    """The set's truth on a clip, put on a blank one as stored where its frames or the shape of its pixels changed."""
    if len(clip.frames_TCHW) == stored.frames and clip.sector_HW.shape == (stored.height, stored.width):
        return add_truth(clip)
    blank_TCHW = np.broadcast_to(np.zeros((), np.uint8), (stored.frames, 1, stored.height, stored.width))
    blank = clip.replace(
        frames_TCHW=blank_TCHW,
        sector_HW=np.ones((stored.height, stored.width), bool),
        frame_time_s=np.arange(stored.frames) if clip.frame_time_s is not None else None,
        fan=None,
    )
    known, kept = add_truth(blank), slice(stored.first, stored.first + len(clip.frames_TCHW))
    time_s = clip.frame_time_s
    if known.frame_time_s is not None and known.frame_time_s is not blank.frame_time_s:
        time_s = known.frame_time_s[kept] - known.frame_time_s[stored.first]
    return known.replace(
        frames_TCHW=clip.frames_TCHW,
        sector_HW=clip.sector_HW,
        fan=clip.fan,
        frame_time_s=time_s,
        phase_T=None if known.phase_T is None else known.phase_T[kept],
        mask_THW=None if known.mask_THW is None else stretched_mask(known.mask_THW[kept], *clip.sector_HW.shape),
    )


def _sectored(decoded: Decoded, *, keep_outside: bool) -> tuple[npt.NDArray[np.uint8], Sector]:
    from echofm.readers.sector import apply_sector

    try:
        return apply_sector(decoded, keep_outside=keep_outside)
    except Refused as refused:
        # It was decoded to its end, so it is no damaged file.
        raise Refused(refused.reason, kind=refused.kind or "no_sector") from None


def _decode(path: Path, *, channels: int, limits: Limits, decoder: Decoder) -> tuple[bytes, Decoded]:
    """SHA-256 of the file's bytes and what its format's reader makes of them."""
    if path.is_dir():
        from echofm.readers.frames import decode_frames, frame_files

        files = frame_files(path)
        if not files:
            raise Refused("it is a folder, and holds no row of five or more numbered JPEG or PNG frames alone")
        return decode_frames(files, channels=channels, limits=limits)
    with ExitStack() as stack:
        file = stack.enter_context(open_plain(path))
        size = os.fstat(file.fileno()).st_size
        limits.check_file(size)
        source: BinaryIO = file
        try:
            if size <= _IN_MEMORY_BYTES:
                source = io.BytesIO(file.read())
                digest = hashlib.sha256(source.getbuffer()).digest()
            else:
                digest = _sha256(file)
        except OSError as error:
            raise Refused(f"the file cannot be read: {os.strerror(error.errno or 0)}") from None
        from echofm.readers.formats import decode

        decoded = decode(source, path=path, channels=channels, limits=limits, decoder=decoder)
        if decoded.companion_sha256:
            digest = hashlib.sha256(digest + decoded.companion_sha256).digest()
        return digest, decoded


def _sha256(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while block := file.read(1 << 22):
        digest.update(block)
    file.seek(0)
    return digest.digest()
