"""The pieces of a page, and how they are written as HTML and as Markdown: all text is escaped.

A text is a str, or a list of str and `Code`. Addresses that begin with https:// become links.
"""

import base64
import dataclasses
import html
import importlib.resources
import re
from collections.abc import Iterable, Sequence

_ADDRESS = re.compile(r'https://[^\s<>()\[\]"\'|\\]+[^\s<>()\[\]"\'|\\.,;:]')
# Nothing may be fetched from anywhere, whatever a page holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"
# What Markdown would take for markup, but for what a page needs: words_with_underscores are safe.
_MARKUP = re.compile(r'([\\`*|\[\]~#])')


class Code(str):
    """A name, a command or a hash, in the letters of a typewriter."""


Text = str | Sequence[str]


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading of `level` 1 to 4; `name` is what links within the page lead to."""

    level: int
    text: str
    name: str = ''


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A paragraph; one that is a `note` stands out."""

    text: Text
    note: bool = False


@dataclasses.dataclass(frozen=True)
class Items:
    """A list."""

    items: Sequence[Text]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first `num_names` columns are names, and whose others are numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[Text]]
    num_names: int = 1


@dataclasses.dataclass(frozen=True)
class Listing:
    """Lines of a program or a command, as they are."""

    text: str
    language: str = ''


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture with a caption, for HTML."""

    content: bytes
    caption: Text
    kind: str = 'png'
    wide: bool = False


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures beside each other, as many as there is room for; `small` ones are faces."""

    pictures: Sequence[Picture]
    small: bool = False


@dataclasses.dataclass(frozen=True)
class Tiles:
    """A few large numbers: what each says, the number, and more about it in small letters."""

    tiles: Sequence[tuple[str, str, str]]


@dataclasses.dataclass(frozen=True)
class Contents:
    """Links to headings of the page: what they say, and the `name` of the heading."""

    links: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Fold:
    """Blocks that are folded away under a summary."""

    summary: str
    blocks: 'Sequence[Block]'


Block = Heading | Paragraph | Items | Table | Listing | Pictures | Tiles | Contents | Fold


def deeper(blocks: Iterable[Block]) -> list[Block]:
    """The same blocks with headings one level below."""

    def moved(block: Block) -> Block:
        if isinstance(block, Fold):
            return dataclasses.replace(block, blocks=deeper(block.blocks))
        if isinstance(block, Heading):
            return dataclasses.replace(block, level=min(block.level + 1, 6))
        return block

    return [moved(block) for block in blocks]


def to_html(blocks: Iterable[Block]) -> str:
    """Writes blocks as HTML."""
    return '\n'.join(map(_html, blocks))


def to_page(title: str, blocks: Iterable[Block]) -> str:
    """Writes a whole page of HTML that needs nothing else and fetches nothing."""
    style = importlib.resources.files(__package__).joinpath('page.css').read_text(encoding='utf-8')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n'
        f'{to_html(blocks)}\n</main>\n</body>\n</html>\n'
    )


def to_markdown(blocks: Iterable[Block]) -> str:
    """Writes blocks as Markdown; pictures and links within the page are left out."""
    return '\n\n'.join(filter(None, map(_markdown, blocks))) + '\n'


def _parts(text: Text) -> Sequence[str]:
    return [text] if isinstance(text, str) else text


def _inline(text: Text) -> str:
    """A text as HTML."""

    def written(part: str) -> str:
        if isinstance(part, Code):
            return f'<code>{html.escape(part)}</code>'
        return _ADDRESS.sub(r'<a href="\g<0>" rel="noreferrer">\g<0></a>', html.escape(part))

    return ''.join(map(written, _parts(text)))


def _html(block: Block) -> str:
    match block:
        case Heading(level, text, name):
            anchor = f' id="{html.escape(name)}"' if name else ''
            return f'<h{level}{anchor}>{_inline(text)}</h{level}>'
        case Paragraph(text, note):
            return f'<p{" class=note" if note else ""}>{_inline(text)}</p>'
        case Items(items):
            return f'<ul>{"".join(f"<li>{_inline(item)}</li>" for item in items)}</ul>'
        case Listing(text):
            return f'<pre>{html.escape(text)}</pre>'
        case Table():
            return _html_table(block)
        case Pictures(pictures, small):
            name = 'faces' if small else 'pictures'
            return f'<div class={name}>{"".join(map(_html_picture, pictures))}</div>'
        case Tiles(tiles):
            parts = (
                f'<b>{_inline(n)}</b>{_inline(said)}<small>{_inline(more)}</small>'
                for said, n, more in tiles
            )
            return f'<div class=tiles>{"".join(f"<div>{part}</div>" for part in parts)}</div>'
        case Contents(links):
            parts = (f'<a href="#{html.escape(name)}">{_inline(said)}</a>' for said, name in links)
            return f'<nav>{" ".join(parts)}</nav>'
        case Fold(summary, blocks):
            head = f'<summary>{_inline(summary)}</summary>'
            return f'<details>{head}\n{to_html(blocks)}\n</details>'


def _html_table(table: Table) -> str:
    count = table.num_names

    def row(cells: Sequence[Text], tag: str) -> str:
        names, numbers = (map(_inline, part) for part in (cells[:count], cells[count:]))
        # Where there is little room, lines break before `(4.59 to 5.00)`, and not in it.
        unbroken = (text.replace(' to ', '\u00a0to\u00a0') for text in numbers)
        written = [f'<{tag}>{text}</{tag}>' for text in names]
        written += [f'<{tag} class=n>{text}</{tag}>' for text in unbroken]
        return f'<tr>{"".join(written)}</tr>'

    body = '\n'.join(row(cells, 'td') for cells in table.rows)
    head = row(table.head, 'th')
    return (
        f'<div class=table><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _html_picture(picture: Picture) -> str:
    data = base64.b64encode(picture.content).decode()
    said = html.escape(''.join(_parts(picture.caption)), quote=True)
    image = f'<img src="data:image/{picture.kind};base64,{data}" alt="{said}">'
    name = ' class=wide' if picture.wide else ''
    return f'<figure{name}>{image}<figcaption>{_inline(picture.caption)}</figcaption></figure>'


def _marked(text: Text) -> str:
    """A text as Markdown in one line."""
    parts = []
    for part in _parts(text):
        if isinstance(part, Code):
            ticks = '``' if '`' in part else '`'
            # A bar would end the cell of a table, in code too.
            parts.append(f'{ticks}{part.replace("|", chr(92) + "|")}{ticks}')
            continue
        plain, links = _ADDRESS.split(part), _ADDRESS.findall(part)
        escaped = [_MARKUP.sub(r'\\\1', html.escape(text, quote=False)) for text in plain]
        for before, link in zip(escaped, [*links, ''], strict=True):
            parts.append(before + (f'<{link}>' if link else ''))
    return ''.join(parts).replace('\n', ' ')


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f'{"#" * level} {_marked(text)}'
        case Paragraph(text, note):
            return f'> {_marked(text)}' if note else _marked(text)
        case Items(items):
            return '\n'.join(f'- {_marked(item)}' for item in items)
        case Listing(text, language):
            return f'```{language}\n{text}\n```'
        case Table(head, rows, num_names):
            line = '|'.join('---' if place < num_names else '---:' for place in range(len(head)))
            lines = [f'| {" | ".join(map(_marked, cells))} |' for cells in (head, *rows)]
            return '\n'.join([lines[0], f'|{line}|', *lines[1:]])
        case Fold(summary, blocks):
            return f'**{_marked(summary)}**\n\n{to_markdown(blocks).rstrip()}'
        case Pictures() | Contents():
            return ''
        case Tiles(tiles):
            return _markdown(Items([f'{said}: {n} {more}'.strip() for said, n, more in tiles]))
