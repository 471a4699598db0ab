"""What `echofm synth sample` does: open, plan, make, filter, tables, page."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from echofm.digest import tensor_digest
from echofm.embed.options import EmbedOptions
from echofm.engine.parallel import on_main, processes
from echofm.errors import EchofmError
from echofm.hub import load_model
from echofm.progress import console
from synth.generator.camus_set import CamusSet
from synth.generator.contact_sheet import contact_sheet, map_sheet
from synth.generator.map_plan import MapPlan
from synth.generator.model import Generator
from synth.generator.motions import open_motions
from synth.generator.plan import Asked, Plan
from synth.generator.sample_set import How, SyntheticSet, accepted
from synth.generator.sampler import Guidance
from synth.text.grammar import VOCABULARY, UnknownWord, unknown_words

if TYPE_CHECKING:
    from synth.generator.cli import Device, SampleSet

_SHOWN = 24


def sample_set(args: SampleSet, *, ef: str | Sequence[float] | None) -> None:
    """The whole command, on every process. Raises EchofmError on bad input, before the folder is made."""
    generator = open_generator(args.run, device=args.device)
    if not generator.codec.shows:
        raise EchofmError(f"{args.run} makes motion, not clips: sample a video-motion generator with --motion")
    _note_unknown_words(generator, args.text)
    plan = _plan(args, generator, ef)
    judge = None
    if args.filter is not None and args.against is not None:
        from synth.generator.judge import Judge

        judge = Judge.open(args.filter, args.against)
    how = How(steps=args.steps, guidance=Guidance(scale=args.guidance))
    settings: dict[str, Any] = {
        "generator": tensor_digest(generator.denoiser.state_dict(), settings=generator.architecture),
        "codec": generator.codec.digest,
        "seed": args.seed,
        "steps": args.steps,
        "guidance": args.guidance,
        "ef": ef,
        "view": args.view,
        "time_point": args.time_point,
        "text": args.text,
        "frames": plan.frames if args.length is not None else None,
        "filter": None if judge is None else judge.fingerprint,
        "reference": plan.references,
        "motion": plan.motion,
        "shape_model": args.shape_model,
        "device": generator.device.type,
    }
    made = (
        CamusSet(args.out, generator, plan, how, settings=settings)
        if isinstance(plan, MapPlan)
        else SyntheticSet(args.out, generator, plan, how, settings=settings)
    )
    numbers, removed = accepted(made, args.count, judge)
    on_main(lambda: _close(made, numbers, removed, judged=judge is not None))


def _plan(args: SampleSet, generator: Generator, ef: str | Sequence[float] | None) -> Plan | MapPlan:
    frames = None
    if args.length is not None:
        rate_hz = generator.contract.frame_rate_hz
        if rate_hz is None:
            raise EchofmError("--length: the generator makes consecutive frames of no fixed rate")
        frames = max(generator.contract.frames, round(args.length * rate_hz))
    if args.maps is not None:
        return MapPlan(generator, maps=args.maps, shape_model=args.shape_model, text=args.text, seed=args.seed)
    asked = Asked(
        ef=ef,
        view=args.view,
        time_point=args.time_point,
        text=args.text,
        frames=frames,
        reference=args.reference,
        motion=None if args.motion is None else open_motions(args.motion, generator),
        seed=args.seed,
    )
    return Plan(generator, asked)


def _note_unknown_words(generator: Generator, texts: Sequence[str]) -> None:
    for text in texts:
        for word, nearest in unknown_words(text, known=generator.config.sizes.words or VOCABULARY).items():
            note = f"note: --text: the word {word!r} is not known and is left out; nearest: {nearest!r}"
            print(note, file=sys.stderr)
    # Once, here, is enough.
    warnings.simplefilter("ignore", UnknownWord)


def open_generator(run: str, *, device: Device = "auto") -> Generator:
    """Of a run, its export or a hub id. Raises EchofmError where it is no generator, or no GPU is there."""
    export = Path(run) / "export"
    model = load_model(export if export.is_dir() else run)
    if not isinstance(model, Generator):
        raise EchofmError(
            f"{run}: a model of kind {model.kind!r} generates nothing; give a run of `echofm synth train`"
        )
    chosen = processes().device if device == "auto" else torch.device(EmbedOptions(device=device).torch_device)
    return model.to(chosen).requires_grad_(False)


def _close(made: SyntheticSet, numbers: Sequence[int], removed: int, *, judged: bool) -> None:
    made.drop_others(numbers)
    made.close(numbers)
    shown, total = numbers[:_SHOWN], len(numbers)
    sheet = map_sheet(made, shown, total=total) if isinstance(made, CamusSet) else None
    page = sheet or contact_sheet(made, shown, total=total)
    page.save(made.out / "index.html")
    rate = f"; the filter took out {removed} of {removed + len(numbers)} clips" if judged else ""
    console.print(f"{len(numbers)} clips in {made.out}{rate}", highlight=False)
