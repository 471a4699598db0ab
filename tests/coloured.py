"""Hearts under a spot of colour that comes and goes, with the grey of the same moments, as clips and as shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shardfolder import KEY, Hearts, read_heart

from echofm import Clip
from echofm.readers.source import Row
from echofm.shards.manifest import Manifest
from echofm.shards.write import write_shards
from synth.latent.config import AdversaryConfig
from synth.translate.config import DataConfig, TranslateRecipe, TranslatorConfig
from synth.translate.recipes import RECIPES

SIZE, TEXTURE, START = 16, 6, 11
RED = np.array([220, 40, 0], np.uint8)[:, None]


def coloured(clip: Clip, *, radius: float = 9.0) -> Clip:
    """A grey clip with a red disc in its middle in two frames of three."""
    grey_THW = clip.frames_TCHW[:, 0]
    rows, columns = np.mgrid[: grey_THW.shape[1], : grey_THW.shape[2]]
    disc_HW = np.hypot(rows - grey_THW.shape[1] / 2, columns - grey_THW.shape[2] / 2) < radius
    frames_TCHW = np.repeat(clip.frames_TCHW, 3, axis=1)
    shown_T = np.arange(len(grey_THW)) % 3 > 0
    frames_TCHW[np.ix_(shown_T, [0, 1, 2])] = np.where(
        disc_HW & clip.sector_HW, RED[None, :, :, None], frames_TCHW[shown_T]
    )
    return clip.replace(frames_TCHW=frames_TCHW, paired_TCHW=grey_THW[:, None], kind="colour_doppler")


def read_coloured(row: Row) -> Clip:
    return coloured(read_heart(row))


def write_coloured(out: Path, n_files: int = 24, *, size: int = SIZE) -> Manifest:
    """Shards in colour with their grey, a quarter of the patients held out."""
    source = Hearts(out.with_name(out.name + "-files"), n_files)
    options = {"channels": 3, "kinds": ("all",), "fractions": (0.5, 0.25, 0.25), "frame_rate_hz": None}
    return write_shards(source, out, size=size, key=KEY, read=read_coloured, show_progress=False, **options)  # type: ignore[arg-type]


def tiny_recipe(**fit: object) -> TranslateRecipe:
    """Twenty steps, the texture from the sixth on, its adversary from the eleventh."""
    recipe = RECIPES["demo"]()
    settings = {"steps": 20, "batch": 4, "save_every": 5, "log_every": 1, "ema_decay": 0.9}
    settings["optim"] = recipe.fit.optim.model_copy(update={"warmup_steps": 2})
    return TranslateRecipe(
        name="demo",
        network=TranslatorConfig(size=SIZE, structure_widths=(4, 8), texture_widths=(4, 4), norm_groups=2),
        texture_step=TEXTURE,
        adversary=AdversaryConfig(start_step=START, width=8, layers=1),
        data=DataConfig(frames=4),
        fit=recipe.fit.model_copy(update=settings | fit),
        monitor=recipe.monitor.model_copy(update={"every": 10, "clips": 2}),
    )
