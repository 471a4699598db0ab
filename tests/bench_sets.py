"""Look-alikes of CardioBench's sets, just large enough to probe, and its tables of splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hearts import Frames, beating_heart, write_avi
from lookalikes import write_nifti
from PIL import Image

PATIENTS = 20
SIZE, LENGTH = 48, 10


def heart(seed: int, *, frames: int = LENGTH) -> Frames:
    return beating_heart(frames=frames, size=SIZE, seed=seed)[0]


def split(number: int) -> str:
    """12 for training, 4 for validation, 4 for testing."""
    return ("train", "train", "train", "val", "test")[number % 5]


def echonet_dynamic(root: Path) -> None:
    (root / "Videos").mkdir(parents=True)
    lines = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    for number in range(PATIENTS):
        name = f"0X{number:016X}"
        lines.append(f"{name},{40 + number}.5,50,{100 + number},112,112,50,{LENGTH},{split(number).upper()}")
        write_avi(root / "Videos" / f"{name}.avi", heart(number))
    (root / "FileList.csv").write_text("\n".join(lines) + "\n")


def echonet_pediatric(root: Path) -> None:
    """Folds 0 to 4: the first is tested on, the second chosen on."""
    for view in ("A4C", "PSAX"):
        (root / view / "Videos").mkdir(parents=True)
        lines = ["FileName,EF,Sex,Age,Weight,Height,Split"]
        for number in range(PATIENTS // 2):
            name = f"CR{number:04d}-CR1-00000{view == 'PSAX':d}.avi"
            lines.append(f"{name},{50 + number}.25,F,3,14,100,{number % 5}")
            write_avi(root / view / "Videos" / name, heart(100 + number + 50 * (view == "PSAX")))
        (root / view / "FileList.csv").write_text("\n".join(lines) + "\n")


def echonet_lvh(root: Path) -> None:
    lines = [",HashedFileName,Calc,CalcValue,Frame,X1,X2,Y1,Y2,Frames,FPS,Width,Height,split"]
    (root / "Batch1").mkdir(parents=True)
    for number in range(PATIENTS):
        for calc, value in (("IVSd", 1.0), ("LVIDd", 4.5), ("LVPWd", 0.9)):
            lines.append(
                f"{len(lines)},0XAB{number:02d},{calc},{value + number / 20:.2f},3,1,2,3,4,9,50,9,9,{split(number)}"
            )
        write_avi(root / "Batch1" / f"0XAB{number:02d}.avi", heart(200 + number))
    (root / "MeasurementsList.csv").write_text("\n".join(lines) + "\n")


def camus(root: Path) -> None:
    named: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number in range(PATIENTS):
        patient = f"patient{number + 1:04d}"
        named[split(number)].append(patient)
        folder = root / "database_nifti" / patient
        folder.mkdir(parents=True)
        for short in ("2CH", "4CH"):
            cfg = f"ED: 1\nES: {LENGTH}\nNbFrame: {LENGTH}\nSex: F\nAge: 50\nEF: {40 + number}\nFrameRate: 50\n"
            (folder / f"Info_{short}.cfg").write_text(cfg)
            write_nifti(folder / f"{patient}_{short}_half_sequence.nii.gz", heart(300 + number + 50 * (short == "4CH")))
    (root / "database_split").mkdir()
    for name, part in (("training", "train"), ("validation", "val"), ("testing", "test")):
        (root / "database_split" / f"subgroup_{name}.txt").write_text("\n".join(named[part]) + "\n")


def tmed2(root: Path) -> None:
    """Three images a study, one of a view without a name; images in no split."""
    home = root / "approved_users_only"
    labeled = home / "view_and_diagnosis_labeled_set" / "labeled"
    unlabeled = home / "view_and_diagnosis_labeled_set" / "unlabeled"
    head = "query_key,view_label,diagnosis_label,SourceFolder"
    lines, fold = [head], [head + ",view_classifier_split,diagnosis_classifier_split"]
    for folder in (labeled, unlabeled):
        folder.mkdir(parents=True)
    for number in range(PATIENTS):
        diagnosis = ("no_AS", "severe_AS", "mild_AS")[number % 3]
        for image, view in enumerate(("PLAX", "PSAX", "A4CorA2CorOther")):
            name = f"{1000 + number}s1_{image}.png"
            Image.fromarray(heart(400 + 3 * number + image, frames=1)[0]).save(labeled / name)
            lines.append(f"{name},{view},{diagnosis},view_and_diagnosis_labeled_set/labeled")
            fold.append(f"{lines[-1]},{split(number)},{split(number)}")
    Image.fromarray(heart(499, frames=1)[0]).save(unlabeled / "1000s1_0.png")
    (home / "labels_per_image.csv").write_text("\n".join(lines) + "\n")
    (home / "DEV479").mkdir()
    (home / "DEV479" / "TMED2_fold0_labeledpart.csv").write_text("\n".join(fold) + "\n")


def cardiacnet(root: Path) -> None:
    """Controls of both halves are the same; the clone's tables split each half."""
    for half in ("PAH", "ASD"):
        for number in range(PATIENTS):
            group = half if number % 2 else f"Non-{half}"
            folder = root / f"CardiacNet-{half}" / group / f"{number:03d}_image.nii"
            folder.mkdir(parents=True)
            seed = 500 + number + 40 * (half == "ASD" and number % 2)
            write_nifti(folder / f"P{number}-4_image.nii", heart(seed))


def hmcqu(root: Path, patients: int = PATIENTS) -> None:
    for view, ending in (("A4C", "_4CH_1"), ("A2C", "_CH2_1")):
        (root / "videos" / view).mkdir(parents=True)
        lines = ["ECHO,SEG1,SEG2"]
        for number in range(patients):
            stem = f"ES000{number}{ending}"
            write_avi(root / "videos" / view / f"{stem}.avi", heart(600 + number + 50 * (view == "A2C")), 25)
            lines.append(f"{stem},{'MI' if number % 2 else 'non-MI'},non-MI")
        (root / f"{view}.csv").write_text("\n".join(lines) + "\n")


def segrwma(root: Path) -> None:
    home = root / "wallMotion"
    home.mkdir(parents=True)
    for number in range(PATIENTS):
        for view in ("A2C", "A3C", "A4C"):
            write_nifti(home / f"patient{number}-2D-{view}_image.nii.gz", heart(700 + number + 30 * int(view[1])))


def clone(root: Path) -> Path:
    """CardioBench's tables of splits, with its columns."""
    home = root / "data" / "splits"
    (home / "cardiacnet").mkdir(parents=True)
    for half in ("PAH", "ASD"):
        lines = [f"path,{half},patient_id,split,image_name,unique_id,parent,stem"]
        for number in range(PATIENTS):
            group, name = half if number % 2 else f"Non-{half}", f"P{number}-4_image.nii"
            path = f"data/raw/CardiacNet/CardiacNet-{half}/{group}/{number:03d}_image.nii/{name}"
            # The other half tests on other patients.
            part, stem = split(number + (half == "ASD")), f"P{number}-4"
            lines.append(
                f"{path},{number % 2},P{number},{part},{name},{number:03d}_image_{stem},{number:03d}_image,{stem}"
            )
        (home / "cardiacnet" / f"cardiacnet_{half.lower()}_split.csv").write_text("\n".join(lines) + "\n")
    lines = ["path,view,patient_id,STEMI,split,unique_id"]
    for view, ending in (("A4C", "_4CH_1"), ("A2C", "_CH2_1")):
        for number in range(PATIENTS):
            path = f"data/raw/HMC_QU/videos/{view}/ES000{number}{ending}.avi"
            lines.append(f"{path},{view},ES000{number},{number % 2},{split(number)},ES000{number}_{view}")
    (home / "hmcqu_split.csv").write_text("\n".join(lines) + "\n")
    lines = ["patient_id,path,modality,view,n_frames,first_annotated_frame_index,abnormal,split,patient_view_id"]
    for number in range(PATIENTS):
        for view in ("A2C", "A3C", "A4C"):
            path = f"Regional_wall_motion_abnormality/wallMotion/patient{number}-2D-{view}_image.nii.gz"
            lines.append(f"patient{number},{path},2D,{view},9,1,{number % 2},{split(number)},patient{number}_{view}")
    (home / "segrwma_split.csv").write_text("\n".join(lines) + "\n")
    return root


WRITERS: dict[str, Callable[[Path], None]] = {
    "EchoNet-Dynamic": echonet_dynamic,
    "pediatric_echo_avi": echonet_pediatric,
    "EchoNet-LVH": echonet_lvh,
    "CAMUS_public": camus,
    "TMED2": tmed2,
    "CardiacNet": cardiacnet,
    "HMC_QU": hmcqu,
    "segRWMA": segrwma,
}
