"""Turn echo files or shards into a table of motion and appearance features.

Exit codes: 0 every echo has a row; 1 done, but some files were set aside (TABLE/set_aside.jsonl says why); 2 bad input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from echofm.embed.options import EmbedOptions
from echofm.errors import EchofmError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from echofm.clip import Clip
    from echofm.embed.table import EmbeddingTable
    from echofm.embed.videos import Videos
    from synth.mafe.network import Mafe

PAGE = "motion.html"


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Turn echo files or shards into a table of motion (motion_NRCD, phase, tokens) and appearance (video_ND).

    `echofm probe TABLE` and `echofm audit` take it. TABLE/motion.html shows flow, middle frames, modes and swaps. Give
    the same command again after an interruption and it goes on; several GPUs by torchrun, as `echofm embed`.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run of `echofm synth train mafe`, or of its export."""
    src: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """A file, a folder, a data set, or shards."""
    table: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    """Folder for the table."""
    modes: int = 0
    """Also write so many spatial modes of each clip's middle window, with their course over the cycle
    (TABLE/modes.safetensors)."""
    pictures: int = 4
    """Clips on the page; 0: no page, no pixels."""
    embed: tyro.conf.OmitArgPrefixes[EmbedOptions] = field(default_factory=EmbedOptions)


def main(argv: list[str]) -> int:
    """`echofm synth motion`."""
    args = tyro.cli(Motion, args=argv, prog="echofm synth motion", description=Motion.__doc__)
    args.embed.check()
    if args.modes < 0 or args.pictures < 0:
        raise EchofmError("--modes and --pictures count: give 0 or more")
    # Only now, so that --help needs no torch.
    from echofm.embed.cache import embed_to
    from echofm.embed.run import joined_ranks
    from echofm.embed.videos import open_videos
    from synth.mafe.extract import MotionEncoder, load_mafe

    options = args.embed
    with joined_ranks(options.torch_device) as ranks:
        encoder = MotionEncoder(load_mafe(args.run)).to(ranks.device)
        videos = open_videos(
            args.src,
            options=options.reading,
            processes=options.processes,
            dataset=options.dataset,
            patient_from=options.patient_from,
            show_progress=ranks.is_main_process,
        )
        extractor = options.extractor(encoder, device=ranks.device, tokens=options.grid)
        source = videos.input(encoder.contract)
        outcome = embed_to(args.table, extractor, source, cache=options.cache, ranks=ranks)
    if outcome is None:
        return 0
    _more(encoder.net, videos, args)
    print(outcome.summary(args.table))
    return 1 if outcome.unused else 0


def _more(net: Mafe, videos: Videos, args: Motion) -> None:
    """Modes and page, for which the clips are read again."""
    from echofm.embed.provenance import is_simulated
    from echofm.embed.run import writing
    from echofm.embed.table import EmbeddingTable
    from echofm.progress import progress_bar
    from synth.mafe.modes import save_modes
    from synth.mafe.report import motion_page
    from synth.mafe.watch import watched

    table = EmbeddingTable.load(args.table)
    videos.locate(table.clip_id.tolist(), args.table)
    if args.modes and _held(args.table) != args.modes:
        modes = []
        with progress_bar("modes", len(table)) as bar:
            for clip in _clips(videos, table.clip_id.tolist()):
                modes.append(watched(net, clip).modes(args.modes))
                bar.advance()
        with writing(args.table):
            save_modes(modes, args.table)
    if args.pictures:
        chosen = [watched(net, clip) for clip in _clips(videos, _of_patients(table, args.pictures))]
        page = motion_page(net, table, chosen, phantom=is_simulated(table))
        page.save(args.table / PAGE)


def _held(table: Path) -> int:
    """Modes of each clip that lie beside the table already."""
    from synth.mafe.modes import load_modes

    try:
        return len(load_modes(table)[0].mode_K2RC)
    except EchofmError:
        return 0


def _clips(videos: Videos, clip_ids: list[str]) -> Iterator[Clip]:
    """The clips as read. Raises EchofmError where one has become unreadable since the table was made."""
    from echofm.errors import UnreadableFile

    for found in videos.read([(clip_id, None) for clip_id in clip_ids], _itself):
        if isinstance(found, UnreadableFile):
            raise EchofmError(f"file {found.file_id} cannot be read any more: {found.reason}")
        yield found


def _itself(clip: Clip, _: None) -> Clip:
    return clip


def _of_patients(table: EmbeddingTable, most: int) -> list[str]:
    """Clips of as many patients, of held-out ones where there are."""
    rows = table.rows
    held_out = rows[rows["split"].isin(["test", "val"])]
    chosen = (held_out if len(held_out) else rows).drop_duplicates("patient_id")
    return chosen["clip_id"].astype(str).tolist()[:most]
