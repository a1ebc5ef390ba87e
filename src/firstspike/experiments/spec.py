"""What an experiment is: a value with its runs, tables and pictures.

>>> from firstspike.experiments import Column, Experiment, Run, Table
>>> Experiment(
...     name="mine",
...     title="My classifier beside the window preset",
...     split="digits, 300 test images",
...     runs=[Run("aggressive-ttfs-window", dataset="digits")],
...     tables=lambda measured: [Table("Accuracy", measured.rows(), [Column("accuracy")])],
... ).name
'mine'
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstspike.experiments.jobs import Job, Options, Run
from firstspike.experiments.results import Spread, show, summarise
from firstspike.metrics.figures import quantity
from firstspike.recipes import PRESETS
from firstspike.support import InputError
from firstspike.training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Figures over several runs, which an experiment's own targets judge.
_OVER_RUNS = ("longest_training_seconds",)

Row = Mapping[str, Any]
"""Figures by name: a `Spread` over seeds, a number, a text, or None. A paper's are under "paper.<name>"."""


@dataclass(frozen=True)
class Column:
    """A figure of every row of a table.

    Attributes:
        figure: its name in the row.
        title: head of the column; the figure's own words by default.
        digits, factor: how it is written; by default as `firstspike.metrics.figures` says.
        paper: add the paper's figure in brackets, where there is one.
        signed: write a plus too.
    """

    figure: str
    title: str = ""
    digits: int | None = None
    factor: float | None = None
    paper: bool = False
    signed: bool = False

    @property
    def heading(self) -> str:
        """The text above the column."""
        return self.title or quantity(self.figure).title

    def cell(self, row: Row) -> str:
        """Return the figure of `row` in writing, a dash where it has none."""
        value = row.get(self.figure)
        text = "-" if value is None else self._text(value, published=self.figure.startswith("paper."))
        theirs = self.published(row) if self.paper else ""
        return f"{text} ({theirs})" if theirs else text

    def published(self, row: Row) -> str:
        """Return the paper's figure in writing, "" where there is none."""
        value = row.get(f"paper.{self.figure}")
        return "" if value is None else self._text(value, published=True)

    def _text(self, value: Any, *, published: bool) -> str:
        if isinstance(value, str):
            return value
        known = quantity(self.figure.removeprefix("paper."))
        factor = known.factor if self.factor is None else self.factor
        if self.digits is None and published:
            # With no more digits than the paper gives.
            return f"{value * factor:,.6g}"
        if self.digits is not None and isinstance(value, int):
            value = float(value)
        digits = known.digits if self.digits is None else self.digits
        return show(value, digits, factor, signed=self.signed)


@dataclass(frozen=True)
class Table:
    """Columns over measured rows.

    Attributes:
        caption: stands above it.
        rows: figures of each row by its label.
        columns: what is shown of them.
        of: what the labels name, as head of the first column.
        notes: sentences below it.
    """

    caption: str
    rows: Mapping[str, Row]
    columns: Sequence[Column]
    of: str = ""
    notes: Sequence[str] = ()

    def written(self) -> dict[str, Any]:
        """Return it as it stands in a result file: texts only."""
        return {
            "caption": self.caption,
            "columns": [self.of, *(column.heading for column in self.columns)],
            "rows": [
                [label, *(column.cell(row) for column in self.columns)] for label, row in self.rows.items()
            ],
            "notes": list(self.notes),
        }


def sentence(row: Row, columns: Sequence[Column]) -> str:
    """Return the figures that `row` has of these, as "98.92 % by spikes, 15.0 steps".

    A column's title holds ``{}`` where its figure stands.
    """
    return ", ".join(c.title.format(c.cell(row)) for c in columns if row.get(c.figure) is not None)


def headline(label: str, row: Row, columns: Sequence[Column]) -> list[str]:
    """Return a row of the README's table: what it is, our figures, the paper's in the same words."""
    theirs = ", ".join(c.title.format(c.published(row)) for c in columns if c.published(row))
    return [label, sentence(row, columns), f"paper: {theirs}" if theirs else "no published figure"]


@dataclass(frozen=True)
class Target:
    """What a measured figure is to reach.

    Attributes:
        what: whose figure.
        figure: its name, which tells which way is better.
        measured: the figure; its mean is judged.
        bound: to be reached, in the figure's own unit.
        words: where the bound comes from.
    """

    what: str
    figure: str
    measured: Spread
    bound: float
    words: str = ""

    @property
    def met(self) -> bool:
        """Whether the mean reaches the bound.

        Raises:
            ValueError: neither more nor less of the figure is known to be better.
        """
        higher = quantity(self.figure).higher
        if higher is None:
            raise ValueError(
                f"target {self.figure!r} of {self.what}: not known whether higher is better; take a figure "
                "that firstspike.metrics.figures lists with a direction"
            )
        mean = self.measured["mean"]
        return bool(mean >= self.bound if higher else mean <= self.bound)


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        section: heading that it stands under, with its neighbours of the same.
        file: its name, ``.png`` or ``.gif``.
        caption: stands under it.
        drawn: a figure, or a function that writes the picture to a path.
    """

    section: str
    file: str
    caption: str
    drawn: "Figure | Callable[[Path], Any]"


@dataclass(frozen=True)
class Measured:
    """An experiment's figures, as its result file holds them.

    Attributes:
        runs: the figures of every run, by row.
        others: whatever else was measured, by name.
    """

    runs: Mapping[str, Sequence[Mapping[str, Any]]]
    others: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return bool(self.runs.get(name))

    def row(self, name: str, *, digit: int | None = None) -> dict[str, Any]:
        """Return mean and spread over seeds of a row's figures, and its paper's where it is a preset.

        Args:
            name: of the row.
            digit: the runs of this class only.
        """
        runs = [run for run in self.runs[name] if digit is None or run["digit"] == digit]
        published = PRESETS[name].paper if name in PRESETS else {}
        return {**summarise(runs), **{f"paper.{figure}": value for figure, value in published.items()}}

    def rows(self, names: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the rows called `names`, or all, by their labels; those that were left out are not
        there.
        """
        chosen = self.runs if names is None else names
        return {f"`{n}`" if n in PRESETS else n: self.row(n) for n in chosen if n in self}


@dataclass(frozen=True)
class Finished:
    """A trained and measured experiment, its runs at hand."""

    options: Options
    runs: Mapping[str, Sequence[tuple[Job, RunFolder]]]
    measured: Measured

    def open(self, name: str, digit: int | None = None) -> RunFolder:
        """Return the run of a row with the first seed."""
        return next(run for job, run in self.runs[name] if job.digit == digit)


def _nothing(_: Any) -> Any:
    return ()


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Runs to train, and what is made of their figures.

    Attributes:
        name: as the command line knows it.
        title: of its section among the results, and of its report.
        split: the images that everything is measured on, in words.
        runs: what is trained, with every seed.
        tables: of the figures; where some rows were not measured, see `run_experiment`, of the others.
        subtitle: one line under the report's title.
        headlines: rows of three texts for the README, see `headline`.
        targets: beyond those that the presets name.
        pictures: of the finished runs that are at hand, in the report's order.
        others: what is measured besides the runs, by name, ready for JSON.
        curves: panels of learning curves for each preset: title to names in the epochs' records.
        file: name of the result file, the experiment's own by default.
        judged: whether the presets' targets are to be reached.
        device: where it trains, "cpu" or "cuda".
        measuring_threads: processor threads for measuring.
        configure: returns the experiment with options of its own, which it takes by keyword.
    """

    name: str
    title: str
    split: str
    runs: Sequence[Run]
    tables: Callable[[Measured], Sequence[Table]]
    subtitle: str = ""
    headlines: Callable[[Measured], Iterable[Sequence[str]]] = _nothing
    targets: Callable[[Measured], Iterable[Target]] = _nothing
    pictures: Callable[[Finished], Iterable[Picture]] = _nothing
    others: Callable[[Finished], Mapping[str, Any]] = lambda _: {}
    curves: Mapping[str, Sequence[str]] = field(default_factory=dict)
    file: str = ""
    judged: bool = True
    device: str = "cpu"
    measuring_threads: int = 1
    configure: "Callable[..., Experiment] | None" = None

    def __post_init__(self) -> None:
        options = Options(Path(), seeds=(0,))
        single = [job for run in self.runs for job in run.jobs(options)]
        for what, names in (
            ("row", [run.name for run in self.runs]),
            ("folder", [job.folder(options).name for job in single]),
        ):
            twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
            if twice:
                raise ValueError(
                    f"experiment {self.name} has several runs of the {what} {', '.join(twice)}; give "
                    "each a variant of its own"
                )

    @property
    def result_file(self) -> str:
        """Name of its result file."""
        return self.file or self.name

    def with_options(self, **own: Any) -> "Experiment":
        """Return the experiment with options of its own, such as the digits of a GAN.

        Raises:
            InputError: it takes no such option.
        """
        taken = () if self.configure is None else inspect.signature(self.configure).parameters
        for option in own:
            if option not in taken:
                raise InputError(f"experiment {self.name} takes no --{option}; leave it out")
        return self if self.configure is None or not own else self.configure(**own)

    def of_rows(self, names: Sequence[str]) -> list[Run]:
        """Return the runs of these rows.

        Raises:
            InputError: it has no such row.
        """
        known = [run.name for run in self.runs]
        for name in names:
            if name not in known:
                raise InputError(
                    f"experiment {self.name} has no row {name!r}; choose from {', '.join(map(repr, known))}"
                )
        # Who names a row wants it: without its data set it is an error, not left out.
        return [replace(run, optional=False) for run in self.runs if run.name in names]

    def render(self, measured: Measured) -> dict[str, Any]:
        """Return what is written of the figures: tables, headlines, and mean and spread of each row."""
        return {
            "tables": [table.written() for table in self.tables(measured) if table.rows],
            "headlines": [list(row) for row in self.headlines(measured)],
            "summary": {name: summarise(runs) for name, runs in measured.runs.items()},
        }

    def all_targets(self, measured: Measured) -> list[Target]:
        """Return the targets of its presets, and its own.

        Raises:
            ValueError: a preset's target was not measured.
        """
        named = []
        for name in (name for name in measured.runs if name in PRESETS):
            summary = measured.row(name)
            for figure, bound in PRESETS[name].target.items():
                if figure in summary:
                    named.append(Target(f"`{name}`", figure, summary[figure], bound))
                elif figure not in _OVER_RUNS:
                    raise ValueError(
                        f"target {figure!r} of {name} was not measured; measure it or take it out"
                    )
        return [*named, *self.targets(measured)]
