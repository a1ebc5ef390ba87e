"""How the site is built: `make docs`, from the repository's root, without a network."""

import os
import re
import shutil
import sys
from pathlib import Path

import torch
from sphinx.application import Sphinx
from sphinx_gallery.scrapers import figure_rst

import firstspike

DOCS = Path(__file__).parent
ROOT = DOCS.parent
BUILT = DOCS / "_build"
sys.path.insert(0, str(DOCS / "_ext"))

project = "firstspike"
author = "The firstspike authors"
copyright = "2026, the firstspike authors"
version = release = firstspike.__version__

extensions = [
    "mathml",
    "presets",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_argparse_cli",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_ext", "images/README.md"]
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = f"firstspike {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = [str(BUILT / "extra")]
html_copy_source = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


class NewPictures:
    """Shows the PNG files that a tutorial wrote since the last of its code blocks."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()

    def __repr__(self) -> str:
        # Part of what sphinx-gallery compares between builds.
        return "NewPictures"

    def __call__(self, block, block_vars, gallery_conf) -> str:
        shown = []
        for path in sorted(Path(block_vars["src_file"]).parent.glob("*.png"), key=os.path.getmtime):
            if (key := (str(path), path.stat().st_mtime_ns)) in self.seen:
                continue
            self.seen.add(key)
            target = next(block_vars["image_path_iterator"])
            shutil.copy(path, target)
            shown.append(target)
        return figure_rst(shown, gallery_conf["src_dir"])


def start_alike(gallery_conf, name) -> None:
    """Let each tutorial start as in a process of its own, on one thread: its networks are small."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


# Sphinx looks for it before any page is made.
(BUILT / "extra" / "play").mkdir(parents=True, exist_ok=True)
# The tutorials run in a copy, so that what they write stays out of the tree.
shutil.rmtree(BUILT / "tutorials", ignore_errors=True)
shutil.copytree(ROOT / "tutorials", BUILT / "tutorials", ignore=shutil.ignore_patterns("runs"))
sphinx_gallery_conf = {
    "examples_dirs": str(BUILT / "tutorials"),
    "gallery_dirs": "tutorials",
    "filename_pattern": r"/\d\d_\w+\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (NewPictures(),),
    "capture_repr": (),
    "reset_modules": (start_alike,),
    "min_reported_time": 10,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
}


def write_pages(app: Sphinx) -> None:
    """Write the pages in which a visitor plays with the networks that come with the package."""
    folder = BUILT / "extra" / "play"
    for name, shape in (("mnist-classifier", (1, 28, 28)), ("mnist-generator", None)):
        network = firstspike.integer(firstspike.load(name), in_shape=shape)
        firstspike.export.html(network, folder / f"{name}.html")


def split_names(app: Sphinx, what, name, subject, options, lines: list[str]) -> None:
    """Give each of several attributes that share a description a line of its own, as napoleon needs it."""
    for index, line in reversed(list(enumerate(lines))):
        if found := re.fullmatch(r"(\s+)(\w+)((?:, \w+)+): (.*)", line):
            indent, first, others, text = found.groups()
            lines[index] = f"{indent}{first}: {text}"
            end = index + 1
            while end < len(lines) and lines[end].startswith(indent + " "):
                end += 1
            lines[end:end] = [f"{indent}{other}: see `{first}`." for other in others[2:].split(", ")]


def setup(app: Sphinx) -> None:
    """Register what is done before a build, and before napoleon reads a docstring."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", split_names, priority=400)
