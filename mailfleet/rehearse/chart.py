"""A play as a picture: delivered and deferred messages by day. Shapes, painted as SVG text or as PNG."""

from __future__ import annotations

import io
from html import escape
from typing import Literal, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from mailfleet.rehearse.play import Played

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 860, 360, 70, 40, 50
PAPER, INK, SOFT, TAKEN, PUT_OFF, WANTED = "#ffffff", "#1c2330", "#6b7485", "#2f7d5b", "#c8553d", "#8a94a6"
SCALE = 2  # dots of a PNG for each unit: sharp on the screens of today


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    colour: str


class _Rule(NamedTuple):
    """A level line."""

    x: float
    y: float
    end: float
    colour: str
    dashed: bool = False


class _Words(NamedTuple):
    x: float
    y: float  # of the middle
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    size: int = 12
    colour: str = SOFT


_Shape = _Box | _Rule | _Words


def svg(played: Played, title: str) -> str:
    """As SVG; it says what it shows in words too, for those who do not see it."""
    shapes = "".join(_as_svg(shape) for shape in _shapes(played, title))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif">'
        f"<title>{escape(_headline(played, title))}</title>{shapes}</svg>"
    )


def png(played: Played, title: str) -> bytes:
    """As PNG."""
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    draw = ImageDraw.Draw(image)
    for shape in _shapes(played, title):
        _paint(draw, shape)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _headline(played: Played, title: str) -> str:
    reached = played.days_to_target
    days = len(played.delivered_by_day)
    return f"{title}: " + (f"target reached on day {reached}" if reached else f"target not reached in {days} days")


def _round(most: int) -> int:
    """The end of the scale: a round number that half of is round too."""
    power = int(10 ** max(0, len(str(most)) - 2))
    return next(step * power for step in (10, 12, 16, 20, 30, 40, 60, 80, 100) if step * power >= most)


def _shapes(played: Played, title: str) -> list[_Shape]:
    days = len(played.delivered_by_day)
    top = _round(max([played.target, *played.delivered_by_day, *played.deferred_by_day]))
    step = (WIDTH - LEFT - 20) / max(1, days)
    base, full = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    right = WIDTH - 20
    made: list[_Shape] = [
        _Box(0, 0, WIDTH, HEIGHT, PAPER),
        _Words(LEFT, 18, _headline(played, title), size=15, colour=INK),
        _Box(WIDTH - 330, 32, 10, 10, TAKEN),
        _Words(WIDTH - 315, 37, "delivered"),
        _Box(WIDTH - 245, 32, 10, 10, PUT_OFF),
        _Words(WIDTH - 230, 37, "deferred"),
        _Rule(WIDTH - 165, 37, WIDTH - 150, WANTED, dashed=True),
        _Words(WIDTH - 144, 37, "wanted a day"),
    ]
    for day, (taken, put_off) in enumerate(zip(played.delivered_by_day, played.deferred_by_day, strict=True)):
        x = LEFT + day * step
        for offset, count, colour in ((0.1, taken, TAKEN), (0.55, put_off, PUT_OFF)):
            height = full * min(count, top) / top
            made.append(_Box(x + offset * step, base - height, 0.4 * step, height, colour))
    made += [_Rule(LEFT, base - full * played.target / top, right, WANTED, dashed=True), _Rule(LEFT, base, right, SOFT)]
    made += [_Words(LEFT - 8, base - full * part, f"{round(top * part):,}", "end") for part in (0, 0.5, 1)]
    every = max(1, days // 12)
    made += [_Words(LEFT + (day + 0.5) * step, base + 14, str(day + 1), "middle") for day in range(0, days, every)]
    return [*made, _Words((LEFT + WIDTH) / 2, HEIGHT - 9, "day", "middle")]


def _as_svg(shape: _Shape) -> str:
    match shape:
        case _Box(x, y, width, height, colour):
            return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
        case _Rule(x, y, end, colour, dashed):
            dashes = ' stroke-dasharray="4 3"' if dashed else ""
            return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end:.1f}" y2="{y:.1f}" stroke="{colour}"{dashes}/>'
        case _Words(x, y, text, anchor, size, colour):
            place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="middle"'
            return f'<text {place} font-size="{size}" fill="{colour}">{escape(text)}</text>'


def _paint(draw: ImageDraw.ImageDraw, shape: _Shape) -> None:
    match shape:
        case _Box(x, y, width, height, colour):
            if height > 0:
                draw.rectangle((x * SCALE, y * SCALE, (x + width) * SCALE - 1, (y + height) * SCALE - 1), colour)
        case _Rule(x, y, end, colour, dashed):
            long, gap = (4, 3) if dashed else (end - x, 1)
            while x < end:
                draw.line((x * SCALE, y * SCALE, min(end, x + long) * SCALE, y * SCALE), colour, SCALE)
                x += long + gap
        case _Words(x, y, text, anchor, size, colour):
            place = {"start": "lm", "middle": "mm", "end": "rm"}[anchor]
            draw.text((x * SCALE, y * SCALE), text, colour, ImageFont.load_default(size * SCALE), place)
