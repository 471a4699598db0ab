"""evaluate_sets: the whole evaluation in Python; `echofm synth evaluate` calls the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from echofm import __version__
from echofm.embed.options import EmbedOptions
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.progress import progress_bar
from synth.audit.api import audit_sets
from synth.audit.audited import Audited
from synth.audit.inputs import encoder_of
from synth.audit.sets import Sets, require_comparable
from synth.audit.settings import AuditSettings
from synth.evaluate.card import CARD, PANELS, Card, Panel, RealSet, SetCard
from synth.evaluate.control import control
from synth.evaluate.diversity import diversity
from synth.evaluate.features import LEVELS, vectors_of
from synth.evaluate.fidelity import Compared, fidelity
from synth.evaluate.inputs import Given, Opened, Tables, embed_all, open_sets
from synth.evaluate.privacy import privacy
from synth.evaluate.settings import EvaluateSettings
from synth.evaluate.temporal import Watched, watched
from synth.evaluate.utility import filmed, utility
from synth.evaluate.video_network import VideoReader

_OWN, _OTHER = "encoder", "second encoder"


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """card: all figures. audits: by set. simulated: whether the real patients are the phantom's."""

    card: Card
    audits: Mapping[str, Audited]
    simulated: bool

    def save(self, folder: str | Path) -> None:
        """Write card.json, card.html and, by set, the audit's own report. Raises EchofmError where it cannot."""
        from synth.evaluate.page import page

        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CARD).write_text(self.card.to_json(), encoding="utf-8")
        except OSError as error:
            raise EchofmError(f"the card cannot be written ({error.strerror}); check --out") from None
        for name, audited in self.audits.items():
            audited.save(folder / "privacy" / name)
        page(self.card, simulated=self.simulated).save(folder / "card.html")


def evaluate_sets(
    real: Given,
    synthetic: Mapping[str, Given],
    *,
    encoder: str | Path | AnyEncoder,
    holdout: Given | None = None,
    settings: EvaluateSettings | None = None,
    embed: EmbedOptions | None = None,
) -> Evaluated:
    """Fidelity, diversity, control, utility and privacy of synthetic sets, each beside the same of real clips.

    real: shards or a set with splits; its train split is what the generators were trained on, val and test are held
        out. holdout: the held-out patients apart; then all of `real` are training patients.
    synthetic: by name; folders in any layout, shards or tables.
    encoder: whose features are compared, as in `echofm embed`. settings, embed: how clips are compared and embedded.
    Raises EchofmError where a set cannot be had or patients are in both real parts.
    """
    options, settings = embed or EmbedOptions(), settings or EvaluateSettings()
    settings.check()
    options.check()
    seed = settings.seed
    opened = open_sets(real, holdout, synthetic, options)
    encoder, second = encoder_of(encoder, options), encoder_of(settings.second, options)
    opened.require_ready(encoder, alpha=settings.alpha)
    own = embed_all(opened, encoder, options, called=_OWN)
    require_fit(own)
    # A table holds no pixels for a second look.
    pixels = all(each.videos for each in opened.all)
    other = embed_all(opened, second, options, called=_OTHER) if pixels else None
    moving = _moving(opened, own)
    video = _video(own, moving, settings, options)
    cards, audits = [], {}
    with progress_bar("evaluating", len(PANELS) * len(synthetic)) as bar:
        for name, made in own.synthetic.items():
            spaces = _spaces(own, other, moving, name)
            panels: dict[str, Panel] = {}
            panels["fidelity"] = fidelity(spaces, seed=seed, draws=settings.draws, alpha=settings.alpha)
            bar.advance(note=name)
            panels["diversity"] = diversity(spaces[f"{_OWN}, clip"], seed=seed)
            bar.advance()
            panels["control"] = control(own.train, own.holdout, made, seed=seed)
            bar.advance()
            films = filmed(made, moving.get(name), synthetic=True)
            panels["utility"] = utility(own.train, own.holdout, made, video=video, films=films, seed=seed)
            bar.advance()
            audits[name] = _audit(opened, name, encoder, settings, options)
            panels["privacy"] = privacy(audits[name])
            bar.advance()
            cards.append(SetCard(name=name, clips=len(made), panels=panels))
    encoders = {_OWN: own.digest} | ({} if other is None else {_OTHER: other.digest})
    card = Card(echofm_version=__version__, encoders=encoders, seed=seed, real=_real(own), sets=cards)
    return Evaluated(card=card, audits=audits, simulated=any(each.simulated for each in audits.values()))


def _audit(
    opened: Opened, name: str, encoder: AnyEncoder, settings: EvaluateSettings, options: EmbedOptions
) -> Audited:
    return audit_sets(
        opened.paths["training"],
        opened.paths["held-out"],
        opened.paths[name],
        encoder=encoder,
        settings=AuditSettings(alpha=settings.alpha, seed=settings.seed, canaries=settings.canaries),
        embed=options,
    )


def _real(tables: Tables) -> RealSet:
    return RealSet(
        train_clips=len(tables.train),
        train_patients=tables.train.rows["patient_id"].nunique(),
        holdout_clips=len(tables.holdout),
        holdout_patients=tables.holdout.rows["patient_id"].nunique(),
    )


def require_fit(tables: Tables) -> None:
    """Raises EchofmError where sets cannot be set beside one another, before more time is spent."""
    for made in tables.synthetic.values():
        require_comparable(Sets(train=tables.train, holdout=tables.holdout, synthetic=made))
    for name, table in {"training": tables.train, "held-out": tables.holdout, **tables.synthetic}.items():
        if "ef_percent" in table.rows and table.rows["ef_percent"].astype(float).max() <= 1:
            raise EchofmError(f"ef_percent of the {name} set is at most 1, so a fraction; write per cent, 55 for 0.55")


def _moving(opened: Opened, tables: Tables) -> dict[str, Watched]:
    """Every set of which there are pixels, by its name."""
    given = {
        "training": (opened.train, tables.train, False),
        "held-out": (opened.holdout, tables.holdout, False),
        **{name: (each, tables.synthetic[name], True) for name, each in opened.synthetic.items()},
    }
    there = {name: (each.videos, table, made) for name, (each, table, made) in given.items() if each.videos is not None}
    with progress_bar("how clips move", sum(len(table) for _, table, _ in there.values())) as bar:
        return {
            name: watched(videos, table, synthetic=made, advance=bar.advance)
            for name, (videos, table, made) in there.items()
        }


def _video(
    own: Tables, moving: Mapping[str, Watched], settings: EvaluateSettings, options: EmbedOptions
) -> VideoReader | None:
    """None where it is not asked for, or the real clips are too few."""
    real, held = filmed(own.train, moving.get("training")), filmed(own.holdout, moving.get("held-out"))
    if settings.video_network == "none" or real is None or held is None:
        return None
    return VideoReader(
        network=settings.video_network,
        steps=settings.video_steps,
        seed=settings.seed,
        device=options.torch_device,
        real=real,
        held=held,
    )


def _spaces(own: Tables, other: Tables | None, moving: Mapping[str, Watched], name: str) -> dict[str, Compared | None]:
    """What all three sets have; None where one has it not."""
    spaces = {
        f"{called}, {level}": None
        if tables is None
        else Compared.of(
            vectors_of(tables.train, level),
            vectors_of(tables.holdout, level),
            vectors_of(tables.synthetic[name], level, synthetic=True),
        )
        for called, tables in ((_OWN, own), (_OTHER, other))
        for level in LEVELS
    }
    seen = [moving[each].vectors if each in moving else None for each in ("training", "held-out", name)]
    spaces["in time"] = Compared.of(*seen)
    return spaces
