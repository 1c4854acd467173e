"""A page of one figure for every image: one file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import inspect
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template
from typing import Any

from yolomix import files
from yolomix.figures import kinds, opening
from yolomix.figures.values import Figure
from yolomix.showing import markup

MOST = 200  # images of a page, each a few hundred kilobytes

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; color: #222; }
figure { margin: 2.5em 0; } img { max-width: 100%; height: auto; } figcaption { font-weight: 600; }
table { border-collapse: collapse; margin: .5em 0; font-size: 13px; } td, th { padding: .15em .7em; text-align: left; }
th { border-bottom: 1px solid #999; } nav a { margin-right: .7em; }
</style></head><body>
<h1>$title</h1>
<p>$what</p>
<nav>$index</nav>
$figures
</body></html>
""")


def gallery(kind: str, models: Any, source: str | Path, out: str | Path = "runs/figures", **settings: Any) -> Path:
    """Write ``KIND-gallery.html``: the figure of each image by itself, with its table.

    Args:
        kind: one of ``yolomix.figures.KINDS`` that takes images.
        models: as for the figure.
        source: a folder of images, or one.
        out: folder of the page.
        settings: what else the figure takes.

    Raises:
        ValueError: a kind that takes no images; too many images for a page.
    """
    draw: Callable[..., Figure] = kinds.find(kind)
    if "source" not in inspect.signature(draw).parameters:
        raise ValueError(f"a gallery is of images, and {kind} takes none")
    given = opening.found(source)
    if len(given) > MOST:
        raise ValueError(f"a page takes {MOST} images at most, and {source} has {len(given)}; give a smaller folder")
    subjects = opening.opened(models)
    figures = [(file.name, draw(subjects, source=file, **settings)) for file in given]
    names = ", ".join(figures[0][1].done["models"])
    page = PAGE.substitute(
        title=html.escape(f"{kind}: {names}"),
        what=html.escape(_said(figures[0][1])),
        index="".join(f'<a href="#{i}">{html.escape(name)}</a>' for i, (name, _) in enumerate(figures)),
        figures="\n".join(_parts(figures)),
    )
    Path(out).mkdir(parents=True, exist_ok=True)
    return files.write_text(Path(out) / f"{kind}-gallery.html", page)


def _parts(figures: list[tuple[str, Figure]]) -> Iterator[str]:
    for i, (name, figure) in enumerate(figures):
        content = io.BytesIO()
        figure.drawn().savefig(content, format="png", dpi=100)
        drawn = base64.b64encode(content.getvalue()).decode()
        caption, verdict = html.escape(name), html.escape(figure.verdict)
        yield (
            f'<figure id="{i}"><figcaption>{caption}</figcaption>'
            f'<img alt="{caption}" src="data:image/png;base64,{drawn}"><p>{verdict}</p>{markup(figure.rows)}</figure>'
        )


def _said(figure: Figure) -> str:
    skipped = ("models", "images", "conditions", "layers", "modules", "counts")
    settings = {name: value for name, value in figure.done.items() if name not in skipped}
    where = figure.done["conditions"]
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"{told}; yolomix {where['versions']['yolomix']}, {where['date']}"
