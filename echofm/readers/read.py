"""read_clip: one file in, one de-identified clip out."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from echofm.clip import Clip
from echofm.errors import UnreadableFile
from echofm.ids import IdKey, load_key
from echofm.readers.decoded import Decoded
from echofm.readers.decord_video import Decoder
from echofm.readers.images import declared_images, image_sha256
from echofm.readers.labels import Labels, labelled
from echofm.readers.limits import Limits
from echofm.readers.opening import open_plain
from echofm.readers.options import Mask, ReadOptions, load_mask
from echofm.readers.pages import without_pages
from echofm.readers.patients import whose
from echofm.readers.refused import Refused
from echofm.readers.source import Row
from echofm.readers.square import squared
from echofm.readers.stored import Stored

if TYPE_CHECKING:
    from echofm.readers.sector import Sector

# Up to here a file is held in memory and read once; above, it is read twice, the second time from the page cache.
_IN_MEMORY_BYTES = 256_000_000


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
    mask: Mask | str | os.PathLike[str] | None = None,
) -> Clip:
    """Read one echo: a video, GIF, DICOM, NIfTI, MetaImage, PNG or JPEG, told apart by content, or a folder of frames.

    Grey is BT.601 luma (echofm.readers.luma) in every format; pixels are square (echofm.readers.square). All outside
    the ultrasound sector are zero in every frame; a file in which no sector is found is refused. The number of frames
    is what was decoded.

    Parameters
    ----------
    channels, key, limits, keep_outside, decoder: as in `ReadOptions`.
    patient: the patient's name in the source; by default DICOM's PatientID, else StudyInstanceUID, else the stem.
    study: the study's name in the source; by default DICOM's StudyInstanceUID, else there is none.
    by_study: take StudyInstanceUID for the patient where `patient` is not given, whatever PatientID says.
    mask: one's own sector (H, W), or a PNG in which it is white; a file of another size is refused.

    Raises UnreadableFile with the file's hashed id and the reason; neither names the path or quotes a tag. A file that
    declares several images is refused too, with how many there are: `read_clips` reads it.
    """
    options = ReadOptions(
        channels=channels,
        key=key or load_key(),
        limits=limits,
        keep_outside=keep_outside,
        decoder=decoder,
        mask_HW=mask if isinstance(mask, np.ndarray) else load_mask(mask),
    )
    return _alone(read_clips(path, options, patient=patient, study=study, by_study=by_study), path, options.key)


def read_clips(
    path: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    patient: str | None = None,
    study: str | None = None,
    by_study: bool = False,
) -> list[Clip]:
    """`read_clip` for a file that may declare several images side by side: a clip of each, left to right."""
    options = options or ReadOptions()
    row = Row(path=Path(path), patient=patient or "", study=study, patient_from="study" if by_study else None)
    return _read(row, options)[0]


def read_row(row: Row, options: ReadOptions | None = None) -> Clip:
    """Read a data set's row: its file, then what the set says about it, then the set's own truth."""
    options = options or ReadOptions()
    return _alone(read_row_clips(row, options), row.path, options.key)


def read_row_clips(row: Row, options: ReadOptions) -> list[Clip]:
    """`read_row` for a file that may declare several images side by side."""
    clips, stored = _read(row, options)
    clips = [
        clip.replace(view=clip.view or row.view, kind=row.kind or clip.kind, labels={**row.labels, **clip.labels})
        for clip in clips
    ]
    if row.frame_rate_hz is not None and clips[0].frame_time_s is None:
        time_s = np.arange(len(clips[0].frames_TCHW)) / row.frame_rate_hz
        clips = [clip.replace(frame_time_s=time_s) for clip in clips]
    if row.add_truth is None:
        return clips
    if len(clips) > 1:
        reason = f"it declares {len(clips)} images, and the set's truth does not say which of them it is of"
        raise UnreadableFile(options.key.file(row.path), reason, "several_images")
    return [stored.with_truth(clips[0], row.add_truth)]


def _alone(clips: list[Clip], path: str | os.PathLike[str], key: IdKey) -> Clip:
    if len(clips) > 1:
        reason = f"it declares {len(clips)} images; echofm.read_clips gives a clip of each"
        raise UnreadableFile(key.file(Path(path)), reason, "several_images")
    return clips[0]


def _read(row: Row, options: ReadOptions) -> tuple[list[Clip], Stored]:
    """The clips of a row's file, and its frames as stored, to which a set's own truth refers."""
    key, path = options.key, row.path
    try:
        digest, decoded = _decode(path, channels=options.channels, limits=options.limits, decoder=options.decoder)
        owner = _Whose.of(row, decoded, options)
        frames, _, height, width = decoded.frames_TCHW.shape
        if options.mask_HW is not None and options.mask_HW.shape != (height, width):
            theirs = " x ".join(map(str, options.mask_HW.shape))
            raise Refused(f"its frames are {height} x {width} pixels, and --mask is {theirs}")
        decoded, first = (decoded, 0) if options.keep_outside else without_pages(decoded)
        images = [decoded] if options.mask_HW is not None else declared_images(decoded)
        stored = Stored(frames=frames, height=height, width=width, first=first)
        del decoded
        several, clips = len(images) > 1, list[Clip]()
        while images:
            # Held no longer than needed: a clip may take most of the memory that a reader has.
            clip = _clip(images.pop(0), row, options, owner, stored)
            own = image_sha256(digest, len(clips) + 1) if several else digest
            clips.append(_labelled(clip.replace(clip_id=key.clip(own)), owner, options))
    except Refused as refused:
        raise UnreadableFile(key.file(path), refused.reason, refused.kind) from None
    except (MemoryError, RecursionError) as error:
        raise UnreadableFile(key.file(path), f"decoding it took too much ({type(error).__name__})") from None
    return clips, stored


@dataclass(frozen=True, kw_only=True)
class _Whose:
    """Hashed ids of a file's patient and study, how the patient is known, and what one's own table says of them."""

    patient_id: str
    study_id: str | None
    patient_by: str
    labels: Labels

    @classmethod
    def of(cls, row: Row, decoded: Decoded, options: ReadOptions) -> _Whose:
        key = options.key
        by_study = row.patient_from == "study"
        name, by = whose(row.path, given=row.patient, tag=decoded.patient, study=decoded.study, by_study=by_study)
        # By its tag a study is unique, so that files of one study under several PatientIDs show; a source numbers its
        # own.
        owner = "" if by in ("tag", "placeholder") and not row.study else name
        study = row.study or decoded.study
        labels = {} if options.labels is None else options.labels.of(row.path, patient=name, study=study)
        study_id = key.study(owner, study) if study else None
        return cls(patient_id=key.patient(name), study_id=study_id, patient_by=by, labels=labels)


def _clip(decoded: Decoded, row: Row, options: ReadOptions, whose: _Whose, stored: Stored) -> Clip:
    """One image as a clip, under no id of its own yet."""
    from echofm.readers.kinds import kind_by_pixels

    decoded = squared(decoded, limits=options.limits)
    frames_TCHW, sector = _sectored(decoded, row, options)
    return Clip(
        frames_TCHW=frames_TCHW,
        sector_HW=sector.mask_HW,
        fan=sector.fan,
        lit_outside=sector.lit_outside,
        dropped_frames=stored.frames - len(frames_TCHW),
        clip_id="",
        patient_id=whose.patient_id,
        study_id=whose.study_id,
        patient_by=whose.patient_by,
        frame_time_s=decoded.frame_time_s,
        pixel_spacing_mm=decoded.pixel_spacing_mm,
        kind=decoded.kind or kind_by_pixels(frames_TCHW, decoded.chroma_HW, sector.mask_HW),
    )


def _labelled(clip: Clip, whose: _Whose, options: ReadOptions) -> Clip:
    """With what one's own table says of its file, patient or study, or of the clip itself by its id."""
    of_clip = {} if options.labels is None else options.labels.of_clip(clip.clip_id)
    return labelled(clip, {**whose.labels, **of_clip})


def _sectored(decoded: Decoded, row: Row, options: ReadOptions) -> tuple[npt.NDArray[np.uint8], Sector]:
    from echofm.readers.given import cut_by_publisher, masked_by_hand
    from echofm.readers.sector import apply_sector, find_sector

    find = cut_by_publisher if row.cut_by_publisher else find_sector
    if options.mask_HW is not None:
        find = partial(masked_by_hand, mask_HW=options.mask_HW)
    try:
        return apply_sector(decoded, keep_outside=options.keep_outside, find=find)
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
