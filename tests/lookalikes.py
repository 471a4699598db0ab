"""Generated look-alikes of every public echo set, quirks included. Each function writes a folder and returns it."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from hearts import Frames, beating_heart, write_avi
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

LENGTH = 12


def heart(seed: int, *, frames: int = LENGTH, size: int = 112) -> Frames:
    return beating_heart(frames=frames, size=size, seed=seed)[0]


def chords(name: str, frame: int, *, top: int = 40, bottom: int = 80, left: int = 45, right: int = 65) -> list[str]:
    """A rectangle as EchoNet-Dynamic writes it: the long axis, then chords from wall to wall."""
    axis = f"{name},{(left + right) / 2},{top},{(left + right) / 2},{bottom},{frame}"
    return [axis, *(f"{name},{left},{row},{right},{row},{frame}" for row in range(top, bottom + 1, 2))]


def echonet_dynamic(root: Path) -> Path:
    """Six videos named, five there; one without tracings; ES listed before ED; one file that no table names."""
    (root / "Videos").mkdir(parents=True)
    lines, traces = (
        ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"],
        ["FileName,X1,Y1,X2,Y2,Frame"],
    )
    for index, split in enumerate(["TRAIN", "TRAIN", "TRAIN", "VAL", "TEST", "TRAIN"]):
        name = f"0X{index:016X}"
        lines.append(f"{name},{40 + index}.5,{50 - index},{100 + index},600,800,50,{LENGTH},{split}")
        if index < 5:
            write_avi(root / "Videos" / f"{name}.avi", heart(index))
        if index != 2:
            traces += chords(f"{name}.avi", 7, top=50, bottom=70) + chords(f"{name}.avi", 2)
    write_avi(root / "Videos" / "0XFFFFFFFFFFFFFFFF.avi", heart(99))
    (root / "FileList.csv").write_text("\n".join(lines) + "\n")
    (root / "VolumeTracings.csv").write_text("\n".join(traces) + "\n")
    return root


SYNTHETIC = {"dynamic": "TRAIN VAL TEST EXTRA", "ped_a4c": "TRAIN EXTRA", "ped_psax": "TRAIN TEST EXTRA"}


def echonet_synthetic(root: Path) -> Path:
    """Three sets of the same names; volumes 0, the split EXTRA, shifted size columns, no VolumeTracings.csv."""
    for place, (name, splits) in enumerate(SYNTHETIC.items()):
        (root / name / "Videos").mkdir(parents=True)
        lines = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
        for index, split in enumerate(splits.split()):
            lines.append(f"sample_{index:06d},{50 + index},0,0,{LENGTH},112,32,1,{split}")
            write_avi(root / name / "Videos" / f"sample_{index:06d}.avi", heart(20 + 5 * place + index), 32)
        (root / name / "FileList.csv").write_text("\n".join(lines) + "\n")
    return root


def echonet_pediatric(root: Path) -> Path:
    """Two views; one patient in both and with two accessions; empty cells; a Frame cell that is no number."""
    for view, offset in (("A4C", 30), ("PSAX", 40)):
        (root / view / "Videos").mkdir(parents=True)
        lines, traces = ["FileName,EF,Sex,Age,Weight,Height,Split"], ["FileName,X,Y,Frame"]
        names = ["CR1000-CR1-000001", "CR1000-CR2-000002", "CR2000-CR3-000003", "CR3000-CR4-000004"]
        for index, (name, fold) in enumerate(zip(names, (0, 0, 8, 9))):
            age, weight = ("", "") if index == 3 else (index, 10.5 + index)
            lines.append(f"{name}.avi,{60 + index}.25,{'FM'[index % 2]},{age},{weight},{100 + index},{fold}")
            write_avi(root / view / "Videos" / f"{name}.avi", heart(offset + index))
            traces += [f"{name}.avi,{x},{y},{3}" for x, y in ((40, 40), (70, 40), (70, 80), (40, 80))]
        traces.append(f"{names[0]}.avi,0,0,No Systolic")
        (root / view / "FileList.csv").write_text("\n".join(lines) + "\n")
        (root / view / "VolumeTracings.csv").write_text("\n".join(traces) + "\n")
    return root


def echonet_lvh(root: Path) -> Path:
    """One line per caliper, files in any batch, native size, one measurement twice, one kind that we do not know."""
    names = ["0XAB1", "0XAB2", "0XAB3", "0XAB4"]
    lines = [",HashedFileName,Calc,CalcValue,Frame,X1,X2,Y1,Y2,Frames,FPS,Width,Height,split"]
    for index, (name, split) in enumerate(zip(names, ("train", "train", "val", "test"))):
        for calc, value in (
            ("IVSd", 1.0),
            ("LVIDd", 4.5),
            ("LVPWd", 0.9),
            ("LVIDs", 3.0),
            ("IVSd", 1.2),
            ("AoRoot", 3),
        ):
            lines.append(
                f"{len(lines) - 1},{name},{calc},{value + index / 10:.2f},3,1,2,3,4,{LENGTH},50,160,160,{split}"
            )
        if index < 3:
            folder = root / f"Batch{1 + index}"
            folder.mkdir(parents=True)
            write_avi(folder / f"{name}.avi", heart(50 + index, size=160))
    (root / "Batch4").mkdir()
    (root / "MeasurementsList.csv").write_text("\n".join(lines) + "\n")
    return root


def camus(root: Path) -> Path:
    """Three patients in both views; ED the last frame in one; whole-sequence masks in one, two frames in another."""
    home = root / "database_nifti"
    for index in (1, 2, 3):
        patient = f"patient{index:04d}"
        (home / patient).mkdir(parents=True)
        for short in ("2CH", "4CH"):
            clip_THW = heart(60 + 2 * index + (short == "4CH"))
            first, last = (LENGTH, 1) if index == 2 else (1, LENGTH)
            (home / patient / f"Info_{short}.cfg").write_text(
                f"ED: {first}\nES: {last}\nNbFrame: {LENGTH}\nSex: {'FM'[index % 2]}\nAge: {50 + index}\n"
                f"ImageQuality: Good\nEF: {50 + index}\nFrameRate: 45.5\n"
            )
            mask_THW = ellipse_mask(LENGTH, 112)
            stem = home / patient / f"{patient}_{short}"
            write_nifti(f"{stem}_half_sequence.nii.gz", clip_THW)
            if index == 1:
                write_nifti(f"{stem}_half_sequence_gt.nii.gz", mask_THW)
            for instant, frame in (("ED", first - 1), ("ES", last - 1)):
                write_nifti(f"{stem}_{instant}.nii.gz", clip_THW[frame])
                write_nifti(f"{stem}_{instant}_gt.nii.gz", mask_THW[frame])
    (root / "database_split").mkdir()
    for name, patient in (("training", 1), ("validation", 2), ("testing", 3)):
        (root / "database_split" / f"subgroup_{name}.txt").write_text(f"patient{patient:04d}\n")
    return root


def camus_mhd(root: Path) -> Path:
    """The older release: training/ with masks, testing/ without, MetaImage; no splits file, no FrameRate."""
    for part, index in (("training", 1), ("testing", 2)):
        patient = f"patient{index:04d}"
        folder = root / part / patient
        folder.mkdir(parents=True)
        for short in ("2CH", "4CH"):
            clip_THW = heart(70 + index)
            lines = f"ED: 1\nES: {LENGTH}\nNbFrame: {LENGTH}\nSex: F\nAge: 60\nImageQuality: Poor\n"
            if part == "training":
                lines += "LVedv: 110.1\nLVesv: 50.2\nLVef: 54.4\n"
                for instant, frame in (("ED", 0), ("ES", LENGTH - 1)):
                    _mhd(folder / f"{patient}_{short}_{instant}_gt", ellipse_mask(LENGTH, 112)[frame : frame + 1])
            (folder / f"Info_{short}.cfg").write_text(lines)
            _mhd(folder / f"{patient}_{short}_sequence", clip_THW)
    return root


def tmed2(root: Path) -> Path:
    """Stills of three patients; a fold table; an unlabelled image; "A4CorA2CorOther"; a file that is no query_key."""
    home = root / "approved_users_only"
    labeled = home / "view_and_diagnosis_labeled_set" / "labeled"
    unlabeled = home / "view_labeled_set" / "unlabeled"
    lines = ["query_key,view_label,diagnosis_label,SourceFolder"]
    fold = ["query_key,view_label,diagnosis_label,SourceFolder,view_classifier_split,diagnosis_classifier_split"]
    rows = [
        ("1009s2_12.png", "PLAX", "severe_AS", "train", "train"),
        ("1009s2_13.png", "A4CorA2CorOther", "severe_AS", "Not_Used", "train"),
        ("2010s1_3.png", "PSAX", "no_AS", "val", "Not_Used"),
        ("3011s1_1.png", "A4C", "Not_Provided", "test", "test"),
    ]
    for folder in (labeled, unlabeled):
        folder.mkdir(parents=True)
    for index, (name, view, diagnosis, *splits) in enumerate(rows):
        Image.fromarray(heart(80 + index, frames=1)[0]).save(labeled / name)
        lines.append(f"{name},{view},{diagnosis},view_and_diagnosis_labeled_set")
        fold.append(f"{lines[-1]},{','.join(splits)}")
    lines.append("9999s1_1.png,PLAX,no_AS,view_labeled_set")
    Image.fromarray(heart(88, frames=1)[0]).save(unlabeled / "4012s1_1.png")
    Image.fromarray(heart(89, frames=1)[0]).save(unlabeled / "preview.png")
    (home / "labels_per_image.csv").write_text("\n".join(lines) + "\n")
    (home / "DEV479").mkdir()
    (home / "DEV479" / "TMED2_fold0_labeledpart.csv").write_text("\n".join(fold) + "\n")
    return root


def mimic(root: Path) -> Path:
    """Two studies of one patient and one of another; two of five files downloaded; values by measurement_id."""
    records = ["subject_id,study_id,acquisition_datetime,dicom_filepath"]
    for index, (subject, study) in enumerate(
        [(10002221, 94106955), (10002221, 94106955), (10002221, 95000000), (10010000, 96000000), (10010000, 96000000)]
    ):
        name = f"files/p10/p{subject}/s{study}/{study}_{index + 1:04d}.dcm"
        records.append(f"{subject},{study},2111-11-11 11:11:11,{name}")
        if index in (0, 3):
            write_dicom(root / name, heart(90 + index), patient=str(subject))
    (root / "echo-record-list.csv").write_text("\n".join(records) + "\n")
    (root / "echo-study-list.csv").write_text(
        "subject_id,study_id,study_datetime,note_id,note_seq,note_charttime,measurement_id,measurement_datetime\n"
        "10002221,94106955,2111-11-11,,,,3000001.0,2111-11-11\n10002221,95000000,2112-11-11,,,,,\n"
        "10010000,96000000,2113-11-11,,,,3000003.0,2113-11-11\n"
    )
    values = (
        "subject_id,measurement_id,measurement_datetime,test_type,measurement,measurement_description,result,unit\n"
    )
    values += "10002221,3000001,2111-11-11,tte,lvef,LV ejection fraction,55,%\n"
    values += '10002221,3000001,2111-11-11,tte,lvedd,"LV, diastole",4.7,cm\n'
    values += "10002221,3000001,2111-11-11,tte,septal_thickness,Septum,11,mm\n"
    values += "10002221,3000001,2111-11-11,tte,gender,Gender,F,\n"
    values += "10010000,3000003,2113-11-11,tte,lvef,LV ejection fraction,>55,%\n"
    values += "10010000,3000003,2113-11-11,tte,rv_comment,Comment,normal,\n"
    (root / "structured-measurement.csv.gz").write_bytes(gzip.compress(values.encode()))
    return root


def cardiacnet(root: Path) -> Path:
    """Both halves; a sparse label, a missing one, and an image that unpacking left as a folder with the file inside."""
    for index, (group, case) in enumerate([("PAH", "001"), ("Non-PAH", "001"), ("ASD", "002"), ("Non-ASD", "003")]):
        folder = root / f"CardiacNet-{group.removeprefix('Non-')}" / group
        folder.mkdir(parents=True)
        clip_THW = heart(100 + index)
        if group == "ASD":
            (folder / f"{case}_image.nii").mkdir()
            write_nifti(folder / f"{case}_image.nii" / f"{case}_image.nii", clip_THW)
        else:
            write_nifti(folder / f"{case}_image.nii.gz", clip_THW)
        if group != "Non-ASD":
            mask_THW = np.zeros_like(clip_THW)
            mask_THW[4, 40:60, 40:50], mask_THW[4, 40:60, 60:70], mask_THW[4, 70:80, 40:50] = 1, 2, 3
            write_nifti(folder / f"{case}_label.nii.gz", mask_THW)
    return root


def hmcqu(root: Path) -> Path:
    """Three spellings of names; one patient in both views; segments in a table for each view, one cell unclear."""
    names = {"A4C": ["ES0001 _4CH_1", "ES000155 n_4CH_1", "ES00030_4CH_1"], "A2C": ["ES0001_CH2_1", "ES00051 N_CH2_1"]}
    for view, stems in names.items():
        (root / "HMC-QU" / view).mkdir(parents=True)
        lines = ["ECHO,SEG1,SEG2,SEG3,Reference Frame,End of Cycle"]
        for index, stem in enumerate(stems):
            write_avi(root / "HMC-QU" / view / f"{stem}.avi", heart(120 + index + 5 * (view == "A2C")), 25)
            lines.append(f"{stem},{('MI', 'non-MI', 'unclear')[index]},non-MI,non-MI,1,20")
        (root / f"{view}.csv").write_text("\n".join(lines) + "\n")
    masks = root / "LV Ground-truth Segmentation Masks"
    masks.mkdir()
    (masks / "Mask_ES0001 _4CH_1.mat").write_bytes(b"MATLAB 5.0")
    return root


def segrwma(root: Path) -> Path:
    """Two patients in two views; contrast cines beside the native ones; labels of undocumented classes; a table."""
    home = root / "wallMotion"
    home.mkdir(parents=True)
    lines = ["patient_id,path,modality,view,n_frames,first_annotated_frame_index,abnormal,split"]
    for patient, kind, view in (("patient1", "2D", "A2C"), ("patient1", "LVO", "A2C"), ("patient12", "2D", "A3C")):
        stem = f"{patient}-{kind}-{view}"
        write_nifti(home / f"{stem}_image.nii.gz", heart(130 + len(lines)))
        write_nifti(home / f"{stem}_label.nii.gz", ellipse_mask(LENGTH, 112))
        path = f"Regional_wall_motion_abnormality/wallMotion/{stem}_image.nii.gz"
        lines.append(
            f"{patient},{path},{kind},{view},{LENGTH},3,{len(lines) % 2},{'train' if len(lines) < 3 else 'test'}"
        )
    (root / "segrwma_split.csv").write_text("\n".join(lines) + "\n")
    return root


def cardiacuda(root: Path) -> Path:
    """Two sites that number their patients alike; chambers drawn as lines on one frame, one line with a gap; the folder
    of dense labels with cines of the sites again."""
    for place, (site, names) in enumerate(
        [
            ("Site_G_100", ["patient1-4", "patient1-2"]),
            ("Site_R_52", ["patient1-4"]),
            ("label_all_frame", ["normal-7-4"]),
        ]
    ):
        (root / site).mkdir(parents=True)
        for name in names:
            write_nifti(root / site / f"{name}_image.nii.gz", heart(140 + place + 5 * name.endswith("2")))
            lines_THW = np.zeros((LENGTH, 112, 112), np.uint8)
            for value, (top, left) in enumerate([(30, 30), (70, 30), (70, 60), (30, 60)], start=1):
                lines_THW[5, top : top + 21, left : left + 21] = value
                lines_THW[5, top + 1 : top + 20, left + 1 : left + 20] = 0
            lines_THW[5, 36:40, 30] = 0
            write_nifti(root / site / f"{name}_label.nii.gz", lines_THW)
    return root


def echophase(root: Path) -> Path:
    """Two folders of videos, a table of videos, a table of frames whose labels are not documented."""
    lines = ["Dataset,Video filename,Number of frames"]
    for index, split in enumerate(["train", "train", "test"]):
        (root / "data" / split).mkdir(parents=True, exist_ok=True)
        write_avi(root / "data" / split / f"video{index}_1.avi", heart(150 + index))
        lines.append(f"{split},video{index}_1,{LENGTH}")
    (root / "data" / "video_info.csv").write_text("\n".join(lines) + "\n")
    (root / "data" / "labels.csv").write_text("Video frame name,Label\nvideo0_1_1,0.92\n")
    return root


def folder(root: Path) -> Path:
    """Any folder: videos and DICOM in subfolders, DICOM without a suffix, junk beside them, no manifest."""
    (root / "ward").mkdir(parents=True)
    write_avi(root / "ward" / "one.avi", heart(110))
    write_avi(root / "ward" / "two.AVI", heart(111))
    write_dicom(root / "ward" / "IM_0001", heart(112), patient="DOE^JANE")
    (root / "ward" / "notes.txt").write_text("not an echo")
    (root / "ward" / "._one.avi").write_bytes(b"what a Mac leaves behind")
    return root


def ellipse_mask(frames: int, size: int) -> Frames:
    """Ventricle inside myocardium, an atrium below; it shrinks from frame to frame."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    mask_THW = np.zeros((frames, size, size), np.uint8)
    for index in range(frames):
        distance = np.hypot((rows - 0.5) / 1.5, columns - 0.45) + 0.002 * index
        mask_THW[index][distance < 0.2] = 2
        mask_THW[index][distance < 0.15] = 1
        mask_THW[index][np.hypot(rows - 0.85, columns - 0.45) < 0.08] = 3
    return mask_THW


def write_dicom(path: Path, frames_THW: Frames, *, patient: str, frame_time_ms: float | None = 20.0) -> Path:
    """An uncompressed ultrasound multi-frame file with planted tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID, data.PatientName = "US", patient, "DOE^PLANTED"
    data.NumberOfFrames, data.Rows, data.Columns = frames_THW.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    if frame_time_ms is not None:
        data.FrameTime = frame_time_ms
        data.FrameIncrementPointer = pydicom.tag.Tag(0x0018, 0x1063)
    data.PixelData = frames_THW.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def write_nifti(path: Path | str, frames_THW: Frames) -> None:
    """Axes X, Y, T, as CAMUS and CardiacNet have them."""
    nibabel.save(nibabel.Nifti1Image(frames_THW.T.copy(), np.diag([0.3, 0.3, 1, 1])), str(path))


def _mhd(stem: Path, frames_THW: Frames) -> None:
    frames, height, width = frames_THW.shape
    stem.with_name(stem.name + ".raw").write_bytes(frames_THW.tobytes())
    stem.with_name(stem.name + ".mhd").write_text(
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        f"ElementSpacing = 0.3 0.3 1\nDimSize = {width} {height} {frames}\nElementType = MET_UCHAR\n"
        f"ElementDataFile = {stem.name}.raw\n"
    )


ALL = {
    "echonet-dynamic": echonet_dynamic,
    "echonet-synthetic": echonet_synthetic,
    "echonet-pediatric": echonet_pediatric,
    "echonet-lvh": echonet_lvh,
    "camus": camus,
    "tmed-2": tmed2,
    "mimic-iv-echo": mimic,
    "cardiacnet": cardiacnet,
    "hmc-qu": hmcqu,
    "segrwma": segrwma,
    "cardiacuda": cardiacuda,
    "unity-echophase": echophase,
    "folder": folder,
}
