"""The sets and tasks of CardioBench, and how its evaluators name what they read (arXiv 2510.00520, code e0bc185)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VIEWS = ("A2C", "A3C", "A4C", "PSAX", "PLAX")
# Its word for every view beside these.
OTHER_VIEW = "Other"
VIEW = "view"
AORTIC_STENOSIS = "any_aortic_stenosis"


@dataclass(frozen=True, kw_only=True)
class BenchSet:
    """A set, or one half of CardiacNet. name: in results. dataset: of its adapter. part: folder of the half.

    home: its folder among CardioBench's predictions. view_key: column that names a clip there. view_end: end of the
    name of its file of views. table: words in the name of CardioBench's table that splits it; () where the set splits
    itself.
    """

    name: str
    title: str
    dataset: str
    where: str
    home: str
    view_key: str
    view_end: str = ""
    part: str = ""
    table: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BenchTask:
    """One label of one set. folder: of its predictions. key: column that names a line there, which has one prediction.

    predicted, probability: its columns. by_view: a file for each view. with_view: a further column. tests: lines that
    CardioBench tests on.
    """

    set: str
    title: str
    target: str
    folder: str
    key: str
    predicted: str
    probability: str = ""
    by_view: bool = False
    with_view: bool = False
    tests: int
    level: Literal["clip", "study", "patient"] = "clip"

    @property
    def name(self) -> str:
        """Of its folder in the results."""
        return f"{self.set}-{self.folder}"


SETS = (
    BenchSet(
        name="echonet-dynamic",
        title="EchoNet-Dynamic",
        dataset="echonet-dynamic",
        where="https://echonet.github.io/dynamic/",
        home="EchoNet-Dynamic",
        view_key="FileName",
    ),
    BenchSet(
        name="echonet-pediatric",
        title="EchoNet-Pediatric",
        dataset="echonet-pediatric",
        where="https://echonet.github.io/pediatric/",
        home="EchoNet-Pediatric",
        view_key="FileName",
    ),
    BenchSet(
        name="camus",
        title="CAMUS",
        dataset="camus",
        where="https://www.creatis.insa-lyon.fr/Challenge/camus/",
        home="CAMUS",
        view_key="unique_id",
    ),
    BenchSet(
        name="echonet-lvh",
        title="EchoNet-LVH",
        dataset="echonet-lvh",
        where="https://echonet.github.io/lvh/",
        home="EchoNet-LVH",
        view_key="HashedFileName",
    ),
    BenchSet(
        name="tmed-2",
        title="TMED-2",
        dataset="tmed-2",
        where="https://tmed.cs.tufts.edu/tmed_v2.html",
        home="TMED2",
        view_key="query_key",
    ),
    BenchSet(
        name="cardiacnet-pah",
        title="CardiacNet (PAH)",
        dataset="cardiacnet",
        part="CardiacNet-PAH",
        where="https://www.kaggle.com/datasets/xiaoweixumedicalai/abnormcardiacechovideos",
        home="CardiacNet",
        view_key="unique_id",
        view_end="_pah",
        table=("cardiacnet", "pah"),
    ),
    BenchSet(
        name="cardiacnet-asd",
        title="CardiacNet (ASD)",
        dataset="cardiacnet",
        part="CardiacNet-ASD",
        where="https://www.kaggle.com/datasets/xiaoweixumedicalai/abnormcardiacechovideos",
        home="CardiacNet",
        view_key="unique_id",
        view_end="_asd",
        table=("cardiacnet", "asd"),
    ),
    BenchSet(
        name="hmc-qu",
        title="HMC-QU",
        dataset="hmc-qu",
        where="https://www.kaggle.com/datasets/aysendegerli/hmcqu-dataset",
        home="HMCQU",
        view_key="unique_id",
        table=("hmcqu",),
    ),
    BenchSet(
        name="segrwma",
        title="segRWMA",
        dataset="segrwma",
        where="https://www.kaggle.com/datasets/xiaoweixumedicalai/regional-wall-motion-abnormality-echo",
        home="segRWMA",
        view_key="patient_view_id",
        table=("segrwma",),
    ),
)


def _ef(set_name: str, key: str, tests: int, *, level: Literal["clip", "patient"] = "clip") -> BenchTask:
    return BenchTask(
        set=set_name,
        title="ejection fraction",
        target="ef_percent",
        folder="EF",
        key=key,
        predicted="EF_pred",
        with_view=set_name == "echonet-pediatric",
        tests=tests,
        level=level,
    )


def _size(target: str, calc: str, title: str, tests: int) -> BenchTask:
    return BenchTask(
        set="echonet-lvh",
        title=title,
        target=target,
        folder=calc,
        key="HashedFileName",
        predicted=f"{calc}_pred",
        tests=tests,
    )


def _disease(set_name: str, target: str, title: str, folder: str, short: str, *, key: str, tests: int) -> BenchTask:
    return BenchTask(
        set=set_name,
        title=title,
        target=target,
        folder=folder,
        key=key,
        predicted=f"{short}_pred",
        # Its evaluator reads no probability of an infarction.
        probability="" if short == "stemi" else f"prob_{short}",
        by_view=short == "rwma",
        with_view=short == "stemi",
        tests=tests,
        level="study" if short == "as" else "clip",
    )


TASKS = (
    _ef("echonet-dynamic", "FileName", 1277),
    _ef("echonet-pediatric", "FileName", 658),
    _ef("camus", "patient_id", 50, level="patient"),
    _size("ivsd_cm", "IVSd", "septum", 339),
    _size("lvidd_cm", "LVIDd", "ventricle's diameter", 340),
    _size("lvpwd_cm", "LVPWd", "posterior wall", 340),
    _disease("tmed-2", AORTIC_STENOSIS, "aortic stenosis", "AS", "as", key="study_id", tests=119),
    _disease(
        "cardiacnet-pah", "pulmonary_hypertension", "pulmonary hypertension", "PAH", "pah", key="unique_id", tests=106
    ),
    _disease("cardiacnet-asd", "atrial_septal_defect", "atrial septal defect", "ASD", "asd", key="unique_id", tests=47),
    _disease("hmc-qu", "myocardial_infarction", "infarction", "stemi", "stemi", key="unique_id", tests=50),
    _disease("segrwma", "wall_motion_abnormality", "wall motion", "rwma", "rwma", key="patient_id", tests=156),
)


def set_of(name: str) -> BenchSet:
    """By its name."""
    return next(each for each in SETS if each.name == name)
