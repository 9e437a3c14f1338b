import html.parser

import pytest

from hybrid.modes.pages import blocks
from hybrid.modes.pages.blocks import Code, Fold, Heading, Items, Listing, Paragraph, Table


class Parser(html.parser.HTMLParser):
    """Collects tags with their attributes, and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.parts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.parts.append(data)

    @property
    def text(self):
        return ''.join(self.parts)


EVIL = '<script>alert("1")</script> & \'x\' | *y* [z](javascript:1) `q`'


@pytest.mark.parametrize(
    'block',
    [
        Heading(2, EVIL, EVIL),
        Paragraph(EVIL, note=True),
        Paragraph(['a ', Code(EVIL)]),
        Items([EVIL]),
        Table([EVIL, 'b'], [[EVIL, Code(EVIL)]]),
        Listing(EVIL, 'bash'),
        blocks.Pictures([blocks.Picture(b'x', EVIL)]),
        blocks.Tiles([(EVIL, EVIL, EVIL)]),
        blocks.Contents([(EVIL, EVIL)]),
        Fold(EVIL, [Paragraph(EVIL)]),
    ],
    ids=lambda block: type(block).__name__,
)
def test_no_text_becomes_markup(block):
    found = Parser(blocks.to_html([block]))
    assert 'script' not in {tag for tag, _ in found.tags}
    # What was said is there, letter by letter.
    assert EVIL in found.text
    known = {'id', 'class', 'href', 'rel', 'src', 'alt'}
    assert {name for _, attributes in found.tags for name in attributes} <= known
    for tag, attributes in found.tags:
        assert tag != 'a' or attributes['href'].startswith(('#', 'https://'))


def test_addresses_become_links():
    text = 'See https://example.org/a_b?c=1&d=2. Not http://example.org.'
    found = Parser(blocks.to_html([Paragraph(text)]))
    assert [attributes['href'] for tag, attributes in found.tags if tag == 'a'] == [
        'https://example.org/a_b?c=1&d=2'
    ]
    assert found.text == text
    said = blocks.to_markdown([Paragraph(text)])
    assert said == 'See <https://example.org/a_b?c=1&d=2>. Not http://example.org.\n'


def test_markdown_is_escaped():
    assert blocks.to_markdown([Paragraph('a|b *c* [d](e) <f> #g my_name')]) == (
        'a\\|b \\*c\\* \\[d\\](e) &lt;f&gt; \\#g my_name\n'
    )
    table = Table(['x', 'n'], [['a\nb', Code('c|d')]])
    assert blocks.to_markdown([table]) == '| x | n |\n|---|---:|\n| a b | `c\\|d` |\n'


def test_a_page_fetches_nothing():
    page = blocks.to_page(EVIL, [Paragraph('x')])
    found = Parser(page)
    policy = [a['content'] for tag, a in found.tags if a.get('http-equiv')]
    assert policy == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"
    ]
    assert {tag for tag, _ in found.tags} == {
        *('html', 'head', 'meta', 'title', 'style', 'body', 'main', 'p')
    }
    assert 'url(' not in page
    assert '@import' not in page


def test_headings_of_one_of_several_runs_are_one_level_below():
    moved = blocks.deeper([Heading(1, 'a'), Fold('b', [Heading(2, 'c')]), Paragraph('d')])
    assert moved == [Heading(2, 'a'), Fold('b', [Heading(3, 'c')]), Paragraph('d')]
