"""One way through every experiment: train, measure, draw, write figures and report."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch

from firstspike.experiments.jobs import Job, Options, epochs_of, measure, train_all
from firstspike.experiments.report import Cell, Report
from firstspike.experiments.results import (
    facts,
    keep_results,
    provenance,
    read_results,
    renew_readme,
    show,
    write_results,
)
from firstspike.experiments.spec import Experiment, Finished, Measured, Picture, Target
from firstspike.metrics.figures import quantity
from firstspike.plot import learning_curves, save_figure
from firstspike.recipes import PRESETS
from firstspike.recipes.base import Recipe
from firstspike.recipes.fields import flat, matches, to_json
from firstspike.support import InputError, option
from firstspike.training.run_folder import RunFolder
from firstspike.training.threads import threads_kept

# What a result file holds besides what its experiment measures on its own.
_WRITTEN = {"title", "provenance", "split", "tables", "headlines", "summary", "recipes", "runs"}


@threads_kept()
def run_experiment(
    experiment: Experiment,
    *,
    out: str | Path,
    data_dir: str | Path | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int | None = None,
    jobs: int = 2,
    results: Path | None = None,
    rows: Sequence[str] = (),
) -> Path:
    """Train what is not finished, measure it on the test set, and return the path of the report.

    Args:
        experiment: one of `firstspike.experiments.EXPERIMENTS`, or your own.
        out: folder for runs, pictures, figures and report; finished runs there are kept.
        data_dir: folder with the data sets.
        seeds: one run of everything for each; repeated ones count once.
        epochs: instead of the presets'.
        jobs: runs trained at the same time, each in a process of its own; more than one needs a script that
            runs only under ``if __name__ == "__main__"``.
        results: folder that also gets the figures as JSON, with ``results.md`` renewed beside it.
        rows: train and measure these alone, and add them to what the result file, of `results` or else of
            `out`, holds of the same recipes.

    Raises:
        InputError: `results` with `epochs`; a row that the experiment has not; pictures or a report, but no
            runs, in `out`; what the training refuses.
    """
    if results is not None and epochs is not None:
        raise InputError("--results is for the presets' own epochs; leave out --epochs")
    out, data_dir = Path(out), None if data_dir is None else Path(data_dir)
    # Each once: a run trained twice side by side would meet itself in its folder.
    options = Options(out, data_dir, tuple(dict.fromkeys(seeds)), epochs, jobs, results)
    folder = out / "results" if results is None else results
    chosen = experiment.of_rows(rows) if rows else experiment.runs
    # What cannot be written is said before hours of training.
    _check_free(out)
    read_results(folder)
    runs = train_all(chosen, options, experiment.device)
    finished, document = measure_all(experiment, options, runs, add_to=folder if rows else None)
    keep_results(out, results, experiment.result_file, document)
    return write_report(experiment, finished, document)


def _check_free(out: Path) -> None:
    """Refuse a folder with files of somebody else's that would be overwritten."""
    held = [name for name in ("pictures", "report.html", "results.md") if (out / name).exists()]
    if held and not any(out.glob("runs/*/config.json")):
        raise InputError(f"{out} holds {held[0]} but no experiment's runs; give another {option('out')}")


def measure_all(
    experiment: Experiment,
    options: Options,
    runs: Mapping[str, Sequence[tuple[Job, RunFolder]]],
    add_to: Path | None = None,
) -> tuple[Finished, dict[str, Any]]:
    """Return the finished experiment and its result file's document, see `results.write_results`.

    The document holds what is measured here, and what the result file in the folder `add_to` holds besides
    of the same recipes.
    """
    torch.set_num_threads(experiment.measuring_threads)
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    controls: dict[str, Any] = {}
    for name, some in runs.items():
        for job, run in some:
            measured = measure(run, options.data_dir)
            # Controls are figures of the images, not of the run: once for each class is enough.
            if "controls" in measured:
                images = job.config(options).dataset if job.digit is None else job.digit
                controls[str(images)] = measured.pop("controls")
            figures[name].append({"seed": job.seed, "digit": job.digit, "call": 0, **measured})
    extra = {"controls": controls} if controls else {}
    finished = Finished(options, runs, Measured(figures, extra))
    extra |= experiment.others(finished)
    document = {
        "provenance": [provenance(options.seeds, experiment.device)],
        "recipes": {run.name: to_json(run.recipe(options)) for run in experiment.runs if run.name in runs},
        "runs": figures,
        **extra,
    }
    # Read now, since another call may have added to it during the training.
    earlier = None if add_to is None else read_results(add_to).get(experiment.result_file)
    if earlier is not None:
        document = _added(experiment, options, earlier, document)
    return finished, _rendered(experiment, document)


def _rendered(experiment: Experiment, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result file's document with all that follows from its figures written anew."""
    written = {
        "title": experiment.title,
        "provenance": document["provenance"],
        "split": experiment.split,
        **experiment.render(_measured(document)),
    }
    return {**written, **{key: value for key, value in document.items() if key not in written}}


def _measured(document: Mapping[str, Any]) -> Measured:
    """The figures of a result file's document."""
    others = {key: value for key, value in document.items() if key not in _WRITTEN}
    return Measured(document["runs"], others)


def _added(
    experiment: Experiment, options: Options, earlier: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
    """Return new figures and what an earlier document holds besides of the same recipes and measures."""
    calls = [*earlier["provenance"], *new["provenance"]]
    # With options of its own, such as digits, an experiment may have fewer rows.
    whole = experiment if experiment.configure is None else experiment.configure()
    rows = {run.name: run for run in (*whole.runs, *experiment.runs)}
    recipes = {name: row.recipe(options) for name, row in rows.items()}
    judges = _judges(chain(*new["runs"].values()))
    runs: dict[str, list[dict[str, Any]]] = {}
    for name in {**recipes, **earlier["runs"]}:
        found = [{**run, "call": len(calls) - 1} for run in new["runs"].get(name, ())]
        measured = {(run["digit"], run["seed"]) for run in found}
        old = [run for run in earlier["runs"].get(name, ()) if (run["digit"], run["seed"]) not in measured]
        if old and name not in recipes:
            reason = "the experiment has no such row any more"
        elif old and not matches(earlier["recipes"][name], recipes[name]):
            reason = "they are of another recipe"
        elif any(judges.get(label, judge) != judge for label, judge in _judges(old).items()):
            reason = "they were measured with another feature network"
        else:
            reason, found = "", [*found, *old]
        if reason:
            print(f"{name}: earlier figures are left out, {reason}", file=sys.stderr)
        if found:
            seeds = sorted({run["seed"] for run in found})[: rows[name].seeds]
            chosen = [run for run in found if run["seed"] in seeds]
            runs[name] = sorted(chosen, key=lambda run: (run["digit"] or 0, run["seed"]))
    # A call of which nothing is left is forgotten.
    used = sorted({run["call"] for some in runs.values() for run in some})
    return {
        "provenance": [calls[call] for call in used],
        "recipes": {name: to_json(recipes[name]) for name in runs},
        "runs": {
            name: [{**run, "call": used.index(run["call"])} for run in some] for name, some in runs.items()
        },
        **_merged(_measured(earlier).others, _measured(new).others),
    }


def _judges(runs: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str | None]]:
    """The feature networks that judged generated images, by what a distance in their features is called."""
    return {
        run["feature_label"]: (run["feature_sha256"], run.get("second_feature_sha256"))
        for run in runs
        if "feature_label" in run
    }


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both, of `new` where they differ; dictionaries within likewise."""
    both = {
        key for key in old.keys() & new.keys() if isinstance(old[key], dict) and isinstance(new[key], dict)
    }
    return {**old, **new, **{key: _merged(old[key], new[key]) for key in both}}


def render_anew(folder: Path, experiments: Iterable[Experiment]) -> None:
    """Write the tables in `folder` anew from the figures in its result files, and the pages made of them.

    Raises:
        InputError: a ``.json`` there is no result file.
    """
    makers = {experiment.result_file: experiment for experiment in experiments}
    for name, document in read_results(folder).items():
        if name in makers:
            write_results(folder, name, _rendered(makers[name], document))
    renew_readme(folder)


def write_report(experiment: Experiment, finished: Finished, document: Mapping[str, Any]) -> Path:
    """Write pictures and the HTML page of a finished experiment; return the page's path."""
    options = finished.options
    report = Report(experiment.title, experiment.subtitle)
    report.facts(facts(provenance(options.seeds, experiment.device)) | {"split": experiment.split})
    if options.epochs is not None:
        report.text(f"A quick look with {options.epochs} epochs: the targets are not judged.")
    elif experiment.judged:
        _add_targets(report, experiment.all_targets(_measured(document)))
    for table in document["tables"]:
        report.heading(table["caption"])
        report.table(table["columns"], table["rows"])
        for note in table["notes"]:
            report.text(note)
    folder = options.out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for section, pictures in groupby(_pictures(experiment, finished), lambda picture: picture.section):
        report.heading(section)
        for picture in pictures:
            draw = picture.drawn if callable(picture.drawn) else partial(save_figure, picture.drawn)
            draw(folder / picture.file)
            report.figure(folder / picture.file, picture.caption)
    presets = [PRESETS[name] for name in finished.runs if name in PRESETS]
    if presets:
        report.heading("Presets")
        report.table(
            ["preset", "what", "trained here", "source"],
            [
                [f"`{p.name}`", p.summary, _trained(finished.runs[p.name][0][1].config, p.recipe), p.source]
                for p in presets
            ],
        )
    return report.write(options.out / "report.html")


def _trained(recipe: Recipe, usual: Recipe) -> str:
    """The data set that a preset was trained on, and the fields in which it differs from the preset's."""
    shape, classes = recipe.sizes()
    known = dict(flat(usual))
    changes = [
        f"{name} {value}"
        for name, value in flat(recipe)
        if name not in ("dataset", "digit") and value != known.get(name)
    ]
    data = f"{recipe.dataset}, {' x '.join(map(str, shape))}, {classes} classes"
    return f"{data}; {', '.join(changes)}" if changes else data


def _pictures(experiment: Experiment, finished: Finished) -> Any:
    """The experiment's own pictures, then the learning curves of its presets' first runs."""
    yield from experiment.pictures(finished)
    for name, runs in finished.runs.items():
        if not experiment.curves or name not in PRESETS:
            continue
        job, run = runs[0]
        records = epochs_of(run)
        # A GAN has no validation accuracy: each network shows the panels that it has.
        panels = {t: keys for t, keys in experiment.curves.items() if all(k in records[0] for k in keys)}
        if panels:
            figure = learning_curves(records, panels, title=name)
            digit = "" if job.digit is None else f", digit {job.digit}"
            caption = f"Seed {job.seed} of `{name}`{digit}."
            yield Picture("Learning curves", f"curves-{name}.png", caption, figure)


def _add_targets(report: Report, targets: Sequence[Target]) -> None:
    if not targets:
        return
    rows = []
    for target in targets:
        known = quantity(target.figure)
        bound = f"{'>=' if known.higher else '<='} {target.bound * known.factor:,.5g}"
        measured = show(target.measured, known.digits, known.factor)
        rows.append(
            [
                target.what,
                known.title,
                f"{bound} ({target.words})" if target.words else bound,
                Cell(measured, "met" if target.met else "missed"),
            ]
        )
    report.heading("Targets")
    report.table(["what", "figure", "target", "measured"], rows)
