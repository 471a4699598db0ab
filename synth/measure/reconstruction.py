"""What a codec costs on held-out windows: pixels, and the ejection fraction read from its reconstructions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from echofm.clip import ClipBatch
from echofm.intervals import Estimate, patient_bootstrap
from echofm.metric.pixel import psnr_db
from synth.latent.codec import Codec
from synth.measure.ejection import agreement
from synth.measure.heart import HeartReader, ef_percent_of


@torch.no_grad()
def reconstructions(codec: Codec, reader: HeartReader, batch: ClipBatch) -> dict[str, dict[str, Estimate]]:
    """Of clips with an ejection fraction, by what was done to them: nothing, the codec, and as the baseline a codec
    that blurs (each scale x scale pixels their mean).

    psnr_db. ef_apart, ef_bias: of what the same reader reads in the original, in percent. correlation, slope, r2, mae:
    of what is read with what is true.
    """
    video_BCTHW, patients = batch.video_BCTHW, np.array(batch.patient_ids)
    own_B, true_B, scale = reader.ef_percent_B(video_BCTHW), ef_percent_of(batch), codec.scale
    blurred = F.avg_pool3d(video_BCTHW, (1, scale, scale)).repeat_interleave(scale, 3).repeat_interleave(scale, 4)
    back = torch.cat([codec.decode(codec.encode(each)) for each in video_BCTHW.split(4)])
    found: dict[str, dict[str, Estimate]] = {"original": agreement(true_B, own_B)}
    for name, changed in (("codec", back), (f"{scale} x {scale} means", blurred)):
        read_B = reader.ef_percent_B(changed)
        found[name] = {
            "psnr_db": _mean(psnr_db(changed, video_BCTHW).numpy(), patients),
            "ef_apart": _mean(np.abs(read_B - own_B), patients),
            "ef_bias": _mean(read_B - own_B, patients),
            **agreement(true_B, read_B),
        }
    return found


def _mean(values_B: npt.NDArray, patients: npt.NDArray[np.str_]) -> Estimate:
    mean: Callable[[npt.NDArray], float] = lambda values: float(values.mean())  # noqa: E731
    return patient_bootstrap(mean, {"values": (values_B, patients)})
