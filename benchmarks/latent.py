"""What a codec costs on held-out patients: pixels, and the ejection fraction read from its reconstructions.

    python -m benchmarks.latent CODEC SHARDS

Clips of the test split, by their first two seconds. The reader is a ridge on each clip's mean and deviation over time
of every 2 x 2 pixels, fitted on the training split's originals, its penalty chosen on the val split; it reads original
and reconstruction alike. Beside it what the reader itself misses of the truth, and the same of 4 x 4 means (a codec
that only blurs). Intervals: 95 %, patients redrawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import tyro

from echofm.clip import Clip
from echofm.errors import EchofmError
from echofm.estimators.ridge import ridge_path
from echofm.estimators.rows import Rows
from echofm.intervals import Estimate, patient_bootstrap
from echofm.metric.pixel import psnr_db
from echofm.progress import progress_bar
from echofm.shards.read import ShardSet
from synth.latent.codec import Codec, open_codec

_SECONDS, _CELL, _BLUR = 2.0, 2, 4
# Features that differ less between training patients, of values in [0, 1], are left out: a reader that gives them
# weight reads the grey levels that a codec leaves in what was black.
_LEAST_DEVIATION = 0.01
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Read:
    """Clips of a split. features_ND: what the reader sees; the others (N,)."""

    features_ND: Floats
    psnr_db_N: Floats
    ef_percent_N: Floats
    patients_N: npt.NDArray[np.str_]


def main(
    codec: tyro.conf.Positional[str], shards: tyro.conf.Positional[Path], *, clips: int | None = None, threads: int = 1
) -> None:
    """Print the table's rows.

    clips: at most so many of the test split.
    """
    torch.set_num_threads(threads)
    opened = ShardSet.open(shards)
    try:
        net = open_codec(codec, size=opened.manifest.settings.size)
    except EchofmError as error:
        raise SystemExit(f"error: {error}") from None
    train, val = (read(opened.split(name), lambda video: video) for name in ("train", "val"))
    kept_D = train.features_ND.std(0) > _LEAST_DEVIATION
    reader = best(train, val, kept_D)
    name, plain, half = Path(codec).name, Through(net), Through(net, bf16=True)
    changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "original": lambda video: video,
        name: plain,
        f"{name} in bf16": half,
        "4 x 4 mean": blurred,
    }
    test = {name: read(opened.split("test"), change, clips=clips) for name, change in changes.items()}
    rows = ["| | PSNR, dB | EF read less EF of the original: mean absolute, bias | r with the truth | MAE |"]
    rows += ["|---|---|---|---|---|"]
    rows += [row(name, found, test["original"], reader) for name, found in test.items()]
    print("\n".join(rows))
    spread = float(np.abs(test["original"].ef_percent_N - train.ef_percent_N.mean()).mean())
    clips_of = f"{len(test['original'].ef_percent_N)} test clips; the training mean misses the truth by {spread:.1f}"
    print(
        f"\n{clips_of}; decoding takes {plain.frame_ms:.2f} ms a frame, in bf16 {half.frame_ms:.2f}, of processor time"
    )


def read(shards: ShardSet, change: Callable[[torch.Tensor], torch.Tensor], *, clips: int | None = None) -> Read:
    """Each clip that states an ejection fraction, changed, as the reader sees it."""
    found: list[tuple[Floats, float, float, str]] = []
    with progress_bar("clips", len(shards)) as bar:
        for clip in shards:
            bar.advance()
            if "ef_percent" in clip.labels and clips != len(found):
                video_BCTHW = start_of(clip)
                changed = change(video_BCTHW)
                psnr = psnr_db(changed, video_BCTHW).item()
                found.append((seen(changed), psnr, float(clip.labels["ef_percent"]), clip.patient_id))
    features, psnr_db_, ef_percent, patients = zip(*found, strict=True)
    return Read(
        features_ND=np.stack(features),
        psnr_db_N=np.array(psnr_db_),
        ef_percent_N=np.array(ef_percent),
        patients_N=np.array(patients),
    )


def start_of(clip: Clip) -> torch.Tensor:
    """(1, 1, T, H, W) in [0, 1]: the first seconds."""
    frames = round(_SECONDS * (clip.frame_rate_hz or 25))
    return torch.from_numpy(clip.frames_TCHW[:frames]).transpose(0, 1)[None].float() / 255


def seen(video_BCTHW: torch.Tensor) -> Floats:
    """(D,) the mean and the deviation over time, cell by cell."""
    cells = F.avg_pool2d(video_BCTHW[0, 0], _CELL)
    return torch.cat([cells.mean(0).flatten(), cells.std(0).flatten()]).double().numpy()


class Through:
    """Encodes, decodes, and rounds to bytes as a file would hold it; counts the decoder's processor time."""

    def __init__(self, codec: Codec, *, bf16: bool = False) -> None:
        self._codec, self._bf16, self._decoding_s, self._frames = codec, bf16, 0.0, 0

    @torch.no_grad()
    def __call__(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        """(1, 1, T, H, W)."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            latents_BCTHW = self._codec.encode(video_BCTHW)
            begun_s = time.process_time()
            back_BCTHW = self._codec.decode(latents_BCTHW)
            self._decoding_s += time.process_time() - begun_s
        self._frames += video_BCTHW.shape[2]
        return (back_BCTHW.float() * 255).round() / 255

    @property
    def frame_ms(self) -> float:
        """Of decoding a frame."""
        return 1000 * self._decoding_s / self._frames


def blurred(video_BCTHW: torch.Tensor) -> torch.Tensor:
    """Each 4 x 4 pixels their mean: what a latent of one number would keep."""
    return F.avg_pool2d(video_BCTHW[0], _BLUR).repeat_interleave(_BLUR, 2).repeat_interleave(_BLUR, 3)[None]


def best(train: Read, val: Read, kept_D: npt.NDArray[np.bool_]) -> Callable[[Floats], Floats]:
    """The reader (N, D) -> (N,) percent whose penalty misses least on the val split."""
    path = ridge_path(Rows(features_ND=train.features_ND[:, kept_D]), train.ef_percent_N)
    ridge = min(path, key=lambda one: np.abs(one.predict(val.features_ND[:, kept_D]) - val.ef_percent_N).mean())
    return lambda features_ND: ridge.predict(features_ND[:, kept_D])


def row(name: str, found: Read, original: Read, reader: Callable[[Floats], Floats]) -> str:
    """A line of the table."""
    ef_N, own_N, true_N = reader(found.features_ND), reader(original.features_ND), found.ef_percent_N
    patients = found.patients_N
    columns = np.stack([ef_N - own_N, ef_N, true_N], 1)

    def figure(statistic: Callable[[Floats], float], values: Floats, digits: int = 2) -> str:
        return shown(patient_bootstrap(lambda it: statistic(it), {"it": (values, patients)}), digits)

    if name == "original":
        psnr = difference = "-"
    else:
        psnr = figure(lambda it: it.mean(), found.psnr_db_N)
        absolute = figure(lambda it: np.abs(it[:, 0]).mean(), columns)
        difference = f"{absolute}, {figure(lambda it: it[:, 0].mean(), columns)}"
    correlation = figure(lambda it: np.corrcoef(it[:, 1], it[:, 2])[0, 1], columns)
    missed = figure(lambda it: np.abs(it[:, 1] - it[:, 2]).mean(), columns, 1)
    return f"| {name} | {psnr} | {difference} | {correlation} | {missed} |"


def shown(estimate: Estimate, digits: int) -> str:
    """A figure and its interval."""
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
