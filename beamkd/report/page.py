"""A report as files: its Markdown, and a page made of it that a browser shows from one file, pictures and all."""

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1rem; max-width: 73rem; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 0.75rem; }
h1 { margin-top: 0.5rem; }
p { max-width: 48rem; }
p:has(img) { max-width: none; margin: 2.5rem 0 0; }
p:has(img) + p { margin-top: 0.25rem; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
.table {
  overflow-x: auto; margin: 1rem 0; background: no-repeat right / 2rem 100% local linear-gradient(Canvas, Canvas),
  no-repeat right / 1rem 100% linear-gradient(to left, rgb(128 128 128 / 50%), transparent);
}
table { border-collapse: collapse; width: max-content; max-width: 73rem; overflow-wrap: normal; font-size: 0.875rem; }
th, td { padding: 0.3rem 0.5rem; border-bottom: 1px solid rgb(128 128 128 / 40%); text-align: left; }
th { vertical-align: bottom; }
td { vertical-align: top; }
[style*="right"] { white-space: nowrap; font-variant-numeric: tabular-nums; }
@media (max-width: 40rem) {
  h1 { font-size: 1.5rem; }
  th:first-child, td:first-child {
    position: sticky; left: 0; max-width: 9rem; background: Canvas;
  }
  td:first-child { overflow-wrap: anywhere; }
}
"""
"""Tables keep their width and scroll in a box of their own, which is shaded on the right while more is to come; on a
narrow screen their first column stays. Colours are the browser's, by day and by night."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"""
"""The browser, too, is told to load nothing."""


def write_report(folder: Path, text: str, pictures: Iterable[str]) -> None:
    """Write `report.md`, and `report.html` with the pictures of these names in `folder`."""
    (folder / "report.md").write_text(text)
    found = {name: (folder / name).read_bytes() for name in pictures}
    (folder / "report.html").write_text(html_page(text, found), encoding="utf-8")


def html_page(text: str, pictures: dict[str, bytes]) -> str:
    """A report's Markdown as a page that needs no other file.

    Only what reports are made of is read: headings, tables, pictures and code. All else is shown as it stands, HTML and
    links, too, for names in results may be anyone's.

    Args:
      text: Markdown; its first line is the title.
      pictures: PNG files by the name under which the text shows them; of others only their words are shown.
    """
    markdown = MarkdownIt("zero").enable(["heading", "table", "image", "backticks"])
    tokens = markdown.parse(text)
    for image in [child for token in tokens for child in token.children or [] if child.type == "image"]:
        name = image.attrs["src"]
        if name in pictures:
            image.attrs["src"] = "data:image/png;base64," + base64.b64encode(pictures[name]).decode()
        else:
            image.type = "text"
    body = markdown.renderer.render(tokens, markdown.options, {})
    body = body.replace("<table>", '<div class="table" tabindex="0">\n<table>').replace("</table>", "</table>\n</div>")
    title = text.splitlines()[0].removeprefix("# ")
    return PAGE.format(title=escape(title), style=STYLE, body=body)
