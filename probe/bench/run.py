"""The runner: every task of every set that is there, for every encoder; what is done already is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from echofm.atomic import write_whole
from echofm.backbones import open_encoder
from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError, os_errors_as
from echofm.progress import progress_bar
from probe.bench.files import lines_of, model_name, write_task, write_views
from probe.bench.opened import How, Opened, Say, open_one
from probe.bench.protocol import bench
from probe.bench.records import Bench, SetRecord, TaskRecord
from probe.bench.tasks import SETS, TASKS, VIEW, BenchTask, set_of
from probe.bench.views import NOTE, in_all, pooled, shared_rows
from probe.checks.embedding import NEAR_COPIES
from probe.names import names_of
from probe.report.findings import target_findings
from probe.result import Probed

FILES, RECORD = "cardiobench", "task.json"


def run(sources: Sequence[str], found: dict[str, Path], *, out: Path, how: How, say: Say) -> Bench:
    """Run and write all but the page. Raises EchofmError where an encoder cannot be opened or `out` not be written."""
    names = names_of(sources)
    if len({model_name(name) for name in names}) < len(names):
        raise EchofmError("two encoders would write files of one name; rename a folder (letters, digits, - and .)")
    encoders = [open_encoder(each, trust_remote_code=how.options.trust_remote_code) for each in sources]
    runs = [
        _EncoderRun(spec=spec, name=name, encoder=encoder, found=found, out=out, how=how, say=say)
        for spec, name, encoder in zip(sources, names, encoders)
    ]
    for each in runs:
        each.run()
    return Bench(
        encoders=names,
        sets=[_set_record(name, found, runs) for name in (each.name for each in SETS)],
        tasks=[record for each in runs for record in each.records],
        failed={f"{each.name}: {task}": why for each in runs for task, why in each.failed.items()},
    )


@dataclass(kw_only=True)
class _EncoderRun:
    """One encoder. sets_failed: by set, why nothing of it was run."""

    spec: str
    name: str
    encoder: AnyEncoder
    found: dict[str, Path]
    out: Path
    how: How
    say: Say
    records: list[TaskRecord] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    sets_failed: dict[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        return model_name(self.name)

    def run(self) -> None:
        requests: dict[str, str] = {}
        files: dict[str, int] = {}
        for name in (each.name for each in SETS if each.name in self.found):
            try:
                requests[name], files[name] = self.how.request(self.encoder, set_of(name), self.found[name])
            except EchofmError as error:
                self._lost(name, error)
        of_views = " ".join(requests.values())
        views_done = self._done(VIEW, of_views)
        opened: dict[str, Opened] = {}
        for name, request in requests.items():
            tasks = [task for task in TASKS if task.set == name]
            done = [self._done(task.name, request) for task in tasks]
            if not all(done) or not views_done:
                try:
                    opened[name] = open_one(
                        self.spec, set_of(name), self.found[name], self.how, files=files[name], say=self.say
                    )
                except EchofmError as error:
                    self._lost(name, error)
                    continue
            with progress_bar(f"{set_of(name).title}: probing", len(tasks)) as bar:
                for task, record in zip(tasks, done):
                    record = record or self._try(task.name, partial(self._task, task, opened.get(name), request))
                    if record is not None:
                        self.records.append(record)
                    bar.advance()
        record = views_done or (self._try(VIEW, lambda: self._views(opened, of_views)) if opened else None)
        if record is not None:
            self.records.append(record)

    def _lost(self, name: str, error: EchofmError) -> None:
        self.sets_failed[name] = str(error)
        self.say(f"{set_of(name).title}: not run: {error}")

    def _try(self, task: str, work: Callable[[], TaskRecord]) -> TaskRecord | None:
        try:
            return work()
        except EchofmError as error:
            self.failed[task] = str(error)
            self.say(f"{task}: not run: {error}")
            return None

    def _folder(self, task: str) -> Path:
        return self.out / self.model / task

    def _done(self, task: str, request: str) -> TaskRecord | None:
        """Of an earlier run of the same request, with all its files."""
        path = self._folder(task) / RECORD
        try:
            record = TaskRecord.from_json(path) if path.is_file() else None
        except EchofmError:
            # Another release's, or damaged: it is done anew.
            return None
        if record is None or record.request != request or not all((self.out / each).is_file() for each in record.files):
            return None
        self.say(f"{self.name}, {task}: done before")
        return record

    def _task(self, task: BenchTask, opened: Opened | None, request: str) -> TaskRecord:
        assert opened is not None, "a set is opened for what is not done"
        found, own = opened.set, set_of(task.set)
        if task.target not in found.table.rows.columns:
            more = "; --cardiobench CLONE brings it" if own.table else ""
            raise EchofmError(f"the files that are here bring no {task.target}{more}")
        probed, theirs = bench(
            found.table,
            task.target,
            baselines=opened.baselines,
            pixels=opened.pixels,
            draws=self.how.draws,
            seed=self.how.seed,
        )
        files: list[Path] = []
        for model, predicted in ((self.model, probed.predictions), (self._theirs, theirs)):
            if found.own_splits:
                files += write_task(self.out / FILES, task, found.keys, predicted, model=model)
        problems = [f"{own.title}: {each}" for each in (*opened.problems, *_near_copies(probed))]
        record = self._record(probed, request=request, task=task.name, title=task.title, files=files, problems=problems)
        update = {
            "set": own.name,
            "tests": {own.name: lines_of(task, found.keys, probed.predictions)},
            "published": {own.name: task.tests},
            "level": task.level,
            "own_splits": found.own_splits,
            "notes": [*found.notes, *record.notes],
        }
        return self._kept(record.model_copy(update=update), probed)

    def _views(self, opened: dict[str, Opened], request: str) -> TaskRecord:
        sets = list(opened.values())
        rows, notes = shared_rows([each.set for each in sets])
        baselines = {
            name: pooled([each.baselines[name] for each in sets], rows)
            for name in in_all([each.baselines for each in sets])
        }
        pixels = [each.pixels for each in sets if each.pixels is not None]
        probed, theirs = bench(
            pooled([each.set.table for each in sets], rows),
            VIEW,
            baselines=baselines,
            pixels=pooled(pixels, rows) if len(pixels) == len(sets) else None,
            features="video",
            draws=self.how.draws,
            seed=self.how.seed,
        )
        files, tests = [], {}
        for name, each in opened.items():
            keys = each.set.test_keys
            tests[name] = int(keys["clip_id"].isin(probed.predictions["clip_id"]).sum())
            for model, predicted in ((self.model, probed.predictions), (self._theirs, theirs)):
                if each.set.own_splits:
                    files.append(write_views(self.out / FILES, set_of(name), keys, predicted, model=model))
        problems = [f"views: {each}" for each in _near_copies(probed)]
        record = self._record(probed, request=request, task=VIEW, title="view", files=files, problems=problems)
        own_splits = all(each.set.own_splits for each in sets)
        update = {"tests": tests, "own_splits": own_splits, "notes": [NOTE, *notes, *record.notes]}
        return self._kept(record.model_copy(update=update), probed)

    @property
    def _theirs(self) -> str:
        return f"{self.model}-cardiobench-probe"

    def _record(
        self, probed: Probed, *, request: str, task: str, title: str, files: Sequence[Path], problems: Sequence[str]
    ) -> TaskRecord:
        """With what is alike for views and for labels of one set."""
        result = probed.result.of_one_split()
        return TaskRecord(
            request=request,
            task=task,
            title=title,
            set="",
            encoder=self.name,
            encoder_digest=self.encoder.digest,
            folder=self._folder(task).relative_to(self.out).as_posix(),
            tests={},
            published={},
            own_splits=True,
            files=[each.relative_to(self.out).as_posix() for each in files],
            level="clip",
            scores=result.scores,
            comparisons=result.comparisons,
            problems=list(problems),
            notes=[*result.notes, *_calibrated(probed)],
        )

    def _kept(self, record: TaskRecord, probed: Probed) -> TaskRecord:
        """With its result beside it; the record last, as the sign that all is there."""
        folder = self._folder(record.task)
        update = {"encoder": self.name, "data": record.set or "all sets", "notes": record.notes}
        replace(probed, result=probed.result.model_copy(update=update)).result.save(folder, probed.predictions)
        with os_errors_as("results cannot be written ({reason}); check --out"):
            write_whole(folder / RECORD, record.to_json())
        return record


def _calibrated(probed: Probed) -> list[str]:
    """Of classes: how far probabilities are from how often they come true."""
    found = target_findings(probed).calibration.values()
    return [f"expected calibration error {each.ece:.3f}" for each in found]


def _near_copies(probed: Probed) -> list[str]:
    """What was found of the task's own split; all else is said of the set."""
    return [check.says for check in probed.result.sanity.checks if check.name == NEAR_COPIES and check.passed is False]


def _set_record(name: str, found: dict[str, Path], runs: Sequence[_EncoderRun]) -> SetRecord:
    own = set_of(name)
    says = next((each.sets_failed[name] for each in runs if name in each.sets_failed), "")
    state: Literal["run", "missing", "failed"]
    state = "missing" if name not in found else "failed" if says else "run"
    return SetRecord(name=name, title=own.title, state=state, says=says, where=own.where)
