import re
from html.parser import HTMLParser

from beamkd.report.page import html_page, write_report

PICTURE = b"\x89PNG of some kind"
SHOWN = "data:image/png;base64,iVBORyBvZiBzb21lIGtpbmQ="
TEXT = """# Study of 'x' & <y>

Power: `a_b` against *all* of KD_1.

## Table

| Network | Top-1 |
| --- | ---: |
| Student | 31.8 |

![What is seen.](some.png)

What is seen.
"""


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def test_page_has_the_text_the_table_and_the_picture():
    page = html_page(TEXT, {"some.png": PICTURE})
    assert page.startswith('<!doctype html>\n<html lang="en">')
    assert "<title>Study of &#x27;x&#x27; &amp; &lt;y&gt;</title>" in page
    assert "<h1>Study of 'x' &amp; &lt;y&gt;</h1>" in page and "<code>a_b</code> against *all* of KD_1." in page
    assert '<td style="text-align:right">31.8</td>' in page
    assert Page(page).all("img") == [{"src": SHOWN, "alt": "What is seen."}]


def test_each_table_has_a_box_of_its_own_to_scroll_in():
    page = html_page(TEXT + "\n| a |\n| --- |\n| b |\n", {"some.png": PICTURE})
    assert len(re.findall(r'<div class="table" tabindex="0">\n<table>', page)) == page.count("<table>") == 2
    assert page.count("</table>\n</div>") == 2


def test_html_and_links_in_the_text_are_text():
    words = '<script>alert(1)</script> [here](https://example.org) <https://example.org> "><img src=x>'
    page = Page(html_page(f"# T\n\n{words}\n\n| {words} |\n| --- |\n| {words} |\n", {}))
    assert page.text.count(words) == 3
    assert not {"script", "a", "img"} & {tag for tag, _ in page.tags}


def test_only_pictures_of_the_report_are_shown():
    others = ("https://example.org/some.png", "../some.png", "/etc/passwd", "data:image/png;base64,AAAA")
    page = Page(html_page("# T\n\n" + "\n\n".join(f"![words]({name})" for name in others), {"some.png": PICTURE}))
    assert not page.all("img") and page.text.count("words") == len(others)


def test_a_page_loads_nothing():
    page = html_page(TEXT, {"some.png": PICTURE})
    assert not re.search(r"https?:|url\(|@import", page)
    assert "default-src 'none'; img-src data:;" in page
    loads = [value for _, attrs in Page(page).tags for name, value in attrs.items() if name in ("src", "href")]
    assert loads == [SHOWN]


def test_both_files_are_written_with_the_pictures_of_the_folder(tmp_path):
    (tmp_path / "some.png").write_bytes(PICTURE)
    write_report(tmp_path, TEXT, ["some.png"])
    assert (tmp_path / "report.md").read_text() == TEXT
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html_page(TEXT, {"some.png": PICTURE})
