"""The directive ``presets``: a table of every preset of the package."""

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from firstspike.recipes import PRESETS


class Presets(Directive):
    """A table of presets: name, what it is, what it should reach, source."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = [".. list-table::", "   :header-rows: 1", ""]
        rows = [
            ("preset", "what it is", "expected", "source"),
            *(
                (f"``{name}``", preset.summary, preset.expected, preset.source)
                for name, preset in PRESETS.items()
            ),
        ]
        for first, *others in rows:
            lines += [f"   * - {first}", *(f"     - {text}" for text in others)]
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source="presets"), 0, holder)
        return holder.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("presets", Presets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
