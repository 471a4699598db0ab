"""The audit's motion level by motion features: a training motion on a new heart is found by it, and by it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from audit_sets import CLIPS, DIGEST, HOLDOUT, TRAIN, WIDTH, canary_table, synthetic, table
from encoder_and_sets import write_encoder_and_sets

from echofm import cli
from echofm.embed.options import EmbedOptions
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.hub import save_model
from echofm.model.config import EncoderConfig
from synth.audit import AuditSettings, audit_sets
from synth.audit.assess import audit
from synth.audit.motion import MotionLevel
from synth.audit.sets import Sets
from synth.mafe.config import MafeConfig
from synth.mafe.network import Mafe

SWAPPED = 40


def moving(looks: EmbeddingTable, motion_NRCD: np.ndarray) -> EmbeddingTable:
    """The same clips' motion on a grid of 2 x 2."""
    return EmbeddingTable.from_arrays(
        looks.video_ND,
        clip_id=looks.clip_id.tolist(),
        patient_id=looks.patient_id.tolist(),
        encoder_digest="m" * 64,
        motion_NRCD=motion_NRCD,
    )


def motions(patients: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    own = np.repeat(rng.standard_normal((patients, 2, 2, 6)), CLIPS, 0)
    return own + 0.2 * rng.standard_normal(own.shape)


@pytest.fixture(scope="module")
def swapped() -> tuple[Sets, MotionLevel]:
    """Canaries of new anatomy whose motion is that of every seventh training clip."""
    made, rng = synthetic(0, 60), np.random.default_rng(8)
    source = TRAIN.clip_id[::7][:SWAPPED].astype(str).tolist()
    new = rng.standard_normal((SWAPPED, WIDTH))
    sets = Sets(
        train=TRAIN, holdout=HOLDOUT, synthetic=made, canaries=canary_table(new, "swap", 1, source, [""] * SWAPPED)
    )
    train = motions(150, 1)
    assert sets.canaries is not None
    seen = Sets(
        train=moving(TRAIN, train),
        holdout=moving(HOLDOUT, motions(300, 2)),
        synthetic=moving(made, motions(30, 3)),
        canaries=moving(sets.canaries, train[::7][:SWAPPED] + 0.1 * rng.standard_normal((SWAPPED, 2, 2, 6))),
    )
    return sets, MotionLevel.of(seen, None, frames=False)


def test_a_motion_on_another_heart_is_found_by_the_motion_level_alone(swapped: tuple[Sets, MotionLevel]) -> None:
    sets, motion = swapped
    found = audit(sets.train, sets.holdout, sets.synthetic, canaries=sets.canaries, motion=motion).result
    assert [each.level for each in found.levels] == ["clip", "motion"]
    assert found.level("motion").power[0].recall.value > 0.9 and found.level("motion").power[0].right_patient > 0.9
    assert found.level("clip").power[0].recall.value < 0.2
    assert found.motion_digest == "m" * 64 and found.reid_digest is None and found.encoder_digest == DIGEST
    assert found.level("motion").flagged.fraction.value < 0.2


def test_a_clip_without_motion_features_counts_as_like_none(swapped: tuple[Sets, MotionLevel]) -> None:
    sets, motion = swapped
    assert not motion.usable(table(2, "other", 4), level="motion").any()
    settings = AuditSettings(levels=("motion",), decide="motion")
    with pytest.raises(EchofmError, match="no synthetic clip has features at the motion level"):
        audit(sets.train, sets.holdout, table(4, "other", 4), motion=motion, settings=settings)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_encoder_and_sets(tmp_path_factory.mktemp("motion"))
    torch.manual_seed(3)
    encoder = EncoderConfig(size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=1, heads=2)
    net = Mafe(MafeConfig(encoder=encoder))
    save_model(net, folder / "mafe" / "export", contract=net.config.contract, card={})
    return folder


def test_swaps_are_planted_and_every_level_reported(given: Path) -> None:
    found = audit_sets(
        f"{given / 'shards'}:train",
        f"{given / 'shards'}:val,test",
        given / "fresh",
        encoder=given / "encoder",
        motion=given / "mafe",
        settings=AuditSettings(alpha=0.25, decide="motion", duplicates="off", strips=0, canaries=3),
        embed=EmbedOptions(cache=given / "cache"),
    )
    power = {each.kind: each for each in found.result.power}
    assert power["swap"].planted == power["exact"].planted > 2
    # An exact copy moves exactly so, whatever the heads have learnt.
    assert power["exact"].right_patient == 1
    page = found.page().html()
    assert "by each level alone" in page and "motion level" in page


def test_motion_needs_pixels_and_a_run(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [f"--train={given / 'shards'}:train", f"--holdout={given / 'shards'}:val,test", f"--out={tmp_path}"]
    asked = ["audit", *sets, f"--encoder={given / 'encoder'}", f"--cache={given / 'cache'}", "--alpha=0.25"]
    run, fresh = f"--motion={given / 'mafe'}", f"--synthetic={given / 'fresh'}"
    tabled = f"--synthetic={given / 'table'}"
    made = ["embed", str(given / "encoder"), str(given / "fresh"), str(given / "table"), f"--cache={given / 'cache'}"]
    assert cli.main(made) == 0
    for words, why in (
        ((run, tabled), "give all sets as videos or shards"),
        (("--motion=nowhere", fresh), "names no folder of a run"),
        ((f"--motion={given / 'encoder'}", fresh), "not motion features"),
    ):
        assert cli.main([*asked, *words]) == 2
        assert why in capsys.readouterr().err
