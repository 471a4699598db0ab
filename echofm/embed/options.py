"""EmbedOptions: how clips become features, the same options on every command that embeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import arg

from echofm.errors import EchofmError
from echofm.readers.decord_video import Decoder
from echofm.readers.label_options import LabelOptions
from echofm.readers.limits import Limits
from echofm.readers.options import ReadOptions, load_mask
from echofm.readers.patients import PatientFrom

if TYPE_CHECKING:
    import torch

    from echofm.acoustic import Kind
    from echofm.embed.extract import Extractor
    from echofm.embed.tokens import TokenGrid
    from echofm.embed.videos import Videos
    from echofm.encoder import AnyEncoder
    from echofm.ids import IdKey
    from echofm.readers.labels import OwnLabels


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """How clips are read and become features. Features are kept, and used again while encoder, data and these are the
    same."""

    windows: Annotated[int | None, arg(metavar="N")] = None
    """Windows per clip, spread evenly and averaged; by default as many as cover the whole clip."""
    tokens: Annotated[str | None, arg(metavar="T,R,C")] = None
    """Also keep the tokens of each clip's middle window, pooled to this grid of times, rows and columns (4,7,7);
    attentive probes and the audit's re-identification read them."""
    batch: int = 16
    """Windows per forward pass; does not change the features."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: faster where the hardware has it; features differ in the third digit, and do not mix with fp32 ones."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    processes: int = 2
    """Reader processes per embedding process; shards need none."""
    dataset: Annotated[str | None, arg(metavar="NAME")] = None
    """Name of the public set in the folder; by default found by looking."""
    patient_from: Annotated[PatientFrom | None, arg(metavar="RULE")] = None
    """What tells patients apart in a plain folder: dicom, parent, top, stem or study (docs/datasets.md)."""
    max_clip_mb: float = 1024
    """Files that decode to more are set aside, 10^6 bytes."""
    max_seconds: float = 120
    """Files that take longer to read are set aside."""
    decoder: Decoder = "pyav"
    """Of videos: decord, on a CPU or GPU, gives the same frames as pyav or sets a file aside."""
    mask: Annotated[Path | None, arg(metavar="FILE.png")] = None
    """Your own sector, white on black, for files of its size; others are set aside."""
    cache: Annotated[Path | None, arg(metavar="PATH")] = None
    """Folder where features are kept and found again; by default ~/.cache/echofm/embeddings."""
    id_key: Annotated[Path | None, arg(metavar="PATH")] = None
    """File with the key of the ids; by default your own."""
    trust_remote_code: bool = False
    """Run the code of a torchhub: repository."""

    def check(self) -> None:
        """Raises EchofmError naming the first number that is none above 0."""
        for name in ("windows", "batch", "processes", "max_clip_mb", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                least = "1 or more" if isinstance(value, int) else "a number above 0"
                raise EchofmError(f"--{name.replace('_', '-')} is {value:g}; give {least}")

    @property
    def reading(self) -> ReadOptions:
        """How files are read. Raises EchofmError where the key or the mask cannot be."""
        return ReadOptions(
            key=self.key,
            limits=Limits(max_clip_mb=self.max_clip_mb, max_seconds=self.max_seconds),
            decoder=self.decoder,
            mask_HW=load_mask(self.mask),
            labels=self.own_labels(),
        )

    def own_labels(self) -> OwnLabels | None:
        """Labels of a table of the user's own."""
        return None

    @property
    def grid(self) -> TokenGrid | None:
        """The grid of `tokens`. Raises EchofmError where it is none."""
        from echofm.embed.tokens import parse_grid

        return None if self.tokens is None else parse_grid(self.tokens)

    @property
    def key(self) -> IdKey:
        """The key of the ids."""
        from echofm.ids import load_key

        return load_key(self.id_key)

    @property
    def torch_device(self) -> str:
        """ "cuda" or "cpu". Raises EchofmError where a GPU is asked for and there is none."""
        import torch

        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise EchofmError("--device cuda: this torch sees no CUDA device; use --device cpu")
        return "cuda" if there and self.device != "cpu" else "cpu"

    def videos(self, src: str | Path, *, has_patients: bool = True, show_progress: bool = True) -> Videos:
        """Open shards, a data set, a folder or a file as these options say (`echofm.embed.videos.open_videos`)."""
        from echofm.embed.videos import open_videos

        return open_videos(
            src,
            options=self.reading,
            processes=self.processes,
            dataset=self.dataset,
            patient_from=self.patient_from,
            has_patients=has_patients,
            show_progress=show_progress,
        )

    def extractor(
        self,
        encoder: AnyEncoder,
        *,
        device: torch.device | str | None = None,
        phase: bool = True,
        tokens: TokenGrid | None = None,
        perturb: Mapping[Kind, float] | None = None,
    ) -> Extractor:
        """An encoder as these options apply it. tokens: the grid to keep, already one that the encoder has. perturb: as
        in `Extractor`."""
        from echofm.embed.extract import Extractor

        self.check()
        return Extractor(
            encoder=encoder,
            windows=self.windows,
            batch=self.batch,
            device=self.torch_device if device is None else device,
            precision=self.precision,
            phase=phase,
            tokens=tokens,
            perturb=perturb or {},
        )


@dataclass(frozen=True, kw_only=True)
class LabelledEmbedOptions(EmbedOptions):
    """The same, with labels out of a table of one's own."""

    own: tyro.conf.OmitArgPrefixes[LabelOptions] = field(default_factory=LabelOptions)

    def own_labels(self) -> OwnLabels | None:
        """Raises EchofmError where the table cannot be used."""
        return self.own.read()
