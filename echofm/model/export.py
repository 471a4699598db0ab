"""Write an encoder as a program of its own: ONNX, or torch's export, for any number of clips.

The file takes clips (B, channels, frames, size, size) under the encoder's contract, whose values it does not check,
and gives video (B, D), phase (B, T, D) and tokens (B, N, D). It is held against torch at one clip and at seven. Exit
codes: 0 written, 2 bad input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from echofm.atomic import whole_file
from echofm.errors import EchofmError, os_errors_as

if TYPE_CHECKING:
    import torch

OUTPUTS = ("video", "phase", "tokens")
# Of the largest feature: what kernels round differently.
TOLERANCE = 1e-4
_CHECKED_AT = (1, 7)
_SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}
Run = Callable[["torch.Tensor"], "list[torch.Tensor]"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write an encoder as ONNX (`pip install echofm[onnx]`), or as torch.export's archive, for any number of clips."""

    encoder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENCODER")]
    """Folder of an exported encoder, its hub id, or another spec (docs/backbones.md)."""
    format: Literal["onnx", "torch"] = "onnx"
    """onnx: for ONNX Runtime and others; torch: `torch.export.load(FILE).module()`."""
    out: Path
    """File to write, .onnx or .pt2; beside it FILE.json says which clips it takes."""


def main(argv: list[str]) -> int:
    """`echofm export`."""
    args = tyro.cli(Export, args=argv, prog="echofm export", description=__doc__)
    if args.out.suffix != _SUFFIX[args.format]:
        raise EchofmError(f"--out {args.out}: a file of --format {args.format} ends in {_SUFFIX[args.format]}")
    from echofm.backbones import open_encoder

    difference = export_encoder(open_encoder(args.encoder), args.out, form=args.format)
    print(f"{args.out}: any number of clips; off from torch by {difference:.1e} at most, at 1 and 7 clips")
    return 0


def export_encoder(encoder: Any, out: Path, *, form: Literal["onnx", "torch"] = "onnx") -> float:
    """Write the file and beside it its contract; the largest difference from torch, of the largest feature.

    Raises EchofmError where onnx is not installed, the encoder cannot be made a graph, or the graph differs by more
    than `TOLERANCE`.
    """
    import json

    from echofm.atomic import write_whole

    if form == "onnx":
        _require_onnx()
    with os_errors_as(f"{out} cannot be written ({{reason}}); choose another path"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as draft:
            run = (_as_onnx if form == "onnx" else _as_torch)(encoder, draft)
            difference = _difference(encoder, run)
        if difference > TOLERANCE:
            out.unlink()
            raise EchofmError(f"the exported encoder differs from torch by {difference:.1e}; please report it")
        contract = encoder.contract.model_dump(mode="json")
        described = {"encoder_digest": encoder.digest, "contract": contract, "input": "video_BCTHW", "outputs": OUTPUTS}
        write_whole(out.with_name(out.name + ".json"), json.dumps(described, indent=1) + "\n")
    return difference


def _whole(encoder: Any) -> torch.nn.Module:
    import torch

    class Whole(torch.nn.Module):
        """The encoder's three outputs in order."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, video_BCTHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = self.encoder.encode(video_BCTHW)
            return found.video_BD, found.phase_BTD, found.tokens_BND

    return Whole().eval()


def _exported(encoder: Any) -> Any:
    import torch

    clips = _clips(encoder, 2)
    try:
        with torch.no_grad():
            return torch.export.export(_whole(encoder), (clips,), dynamic_shapes=({0: torch.export.Dim("clips")},))
    except Exception as error:  # whatever somebody's network raises in torch's tracer
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise EchofmError(f"this encoder cannot be made a graph of any number of clips: {reason}") from None


def _as_torch(encoder: Any, path: Path) -> Run:
    import torch

    torch.export.save(_exported(encoder), path)
    program = torch.export.load(path).module()
    return lambda video_BCTHW: list(program(video_BCTHW))


def _as_onnx(encoder: Any, path: Path) -> Run:
    import onnxruntime
    import torch

    program = torch.onnx.export(
        _exported(encoder),
        (_clips(encoder, 2),),
        dynamo=True,
        input_names=["video_BCTHW"],
        output_names=list(OUTPUTS),
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda video_BCTHW: [
        torch.from_numpy(each) for each in session.run(None, {"video_BCTHW": video_BCTHW.numpy()})
    ]


def _difference(encoder: Any, run: Run) -> float:
    import torch

    worst = 0.0
    for count in _CHECKED_AT:
        clips = _clips(encoder, count)
        with torch.no_grad():
            for ours, theirs in zip(_whole(encoder)(clips), run(clips), strict=True):
                if ours.shape != theirs.shape:
                    return float("inf")
                if ours.numel():
                    off = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12))
                    # Of NaN every comparison is false.
                    worst = max(worst, off if math.isfinite(off) else math.inf)
    return worst


def _clips(encoder: Any, count: int) -> torch.Tensor:
    """Clips of noise within the contract, the same every time."""
    import torch

    contract = encoder.contract
    low, high = contract.value_range
    shape = (count, contract.channels, contract.frames, contract.size, contract.size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(count)) * (high - low) + low


def _require_onnx() -> None:
    import importlib.util

    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise EchofmError(
            f"--format onnx needs {', '.join(missing)}: pip install 'echofm[onnx]'; --format torch does not"
        )
