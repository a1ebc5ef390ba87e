"""The frame of a report page: its style sheet and the parts around the content."""

from html import escape

# The policy holds the page to what is in the file: a browser refuses every request, should one
# ever slip in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --muted: #5b6570; --rule: #d5dbe1;
  --paper: #ffffff; --tint: #f3f6f8; --accent: #2f6497; --met: #1a6b2b; --missed: #b3314b; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe5ea; --muted: #9aa6b2; --rule: #36414c;
  --paper: #161c22; --tint: #1f2831; --accent: #7fb2e3; --met: #6fcf85; --missed: #ff8fa3; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; }
.subtitle { color: var(--muted); font-size: 1.05rem; margin: .4rem 0 0; }
h2 { font-size: 1.35rem; margin: 3rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--rule); }
p { margin: .7rem 0; max-width: 44rem; }
a { color: var(--accent); }
nav { margin-top: 1.6rem; padding: .8rem 1.1rem; background: var(--tint); border-radius: .5rem; }
nav ul { list-style: none; margin: 0; padding: 0; columns: 16rem; }
nav a { text-decoration: none; }
code { font: .88em/1.4 ui-monospace, "DejaVu Sans Mono", monospace; background: var(--tint);
  padding: .1em .3em; border-radius: .25em; overflow-wrap: anywhere; }
.table { margin: 1.4rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .42rem .7rem; text-align: left; vertical-align: top; font-weight: 400;
  border-bottom: 1px solid var(--rule); }
th:first-child { padding-left: 0; }
thead th { font-size: .82rem; color: var(--muted); vertical-align: bottom;
  border-bottom: 2px solid var(--rule); }
th.text, td.text { min-width: 8rem; }
.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.mark { font-weight: 700; margin-left: .35em; }
.met { color: var(--met); } .missed { color: var(--missed); }
figure { margin: 1.6rem 0; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: .4rem; }
figcaption { font-size: .88rem; color: var(--muted); margin-top: .5rem; max-width: 44rem; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .35rem 1.2rem;
  margin: 1rem 0; padding: 1rem 1.1rem; background: var(--tint); border-radius: .5rem;
  font-size: .9rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
dl code { background: none; padding: 0; }
@media (prefers-color-scheme: dark) { img { padding: .4rem; } }
@media (max-width: 34rem) { main { padding: 1.5rem .9rem 3rem; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; } }
@media print { :root { color-scheme: light; } nav { display: none; }
  figure, tr { break-inside: avoid; } }
"""


def render_page(title: str, subtitle: str, sections: list[tuple[str, str]], blocks: list[str]) -> str:
    """Return the whole page.

    Args:
        title: plain text.
        subtitle: plain text, may be empty.
        sections: id and plain title of each section, for the contents.
        blocks: the content as HTML.
    """
    contents = ""
    if len(sections) > 2:
        links = "".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name in sections)
        contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>'
    below = f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            f"<header><h1>{escape(title)}</h1>{below}</header>",
            *([contents] if contents else []),
            *blocks,
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )
