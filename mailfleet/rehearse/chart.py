"""A play as a picture: delivered and deferred messages by day, as SVG. No library: two rows of bars and a line."""

from __future__ import annotations

from html import escape

from mailfleet.rehearse.play import Played

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 860, 360, 70, 40, 50
INK, SOFT, TAKEN, PUT_OFF, WANTED = "#1c2330", "#6b7485", "#2f7d5b", "#c8553d", "#8a94a6"


def svg(played: Played, title: str) -> str:
    """The picture; it says what it shows in words too, for those who do not see it."""
    days = len(played.delivered_by_day)
    top = max([played.target, *played.delivered_by_day, *played.deferred_by_day]) or 1
    step = (WIDTH - LEFT - 20) / max(1, days)
    base, full = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    bars = []
    for day, (taken, put_off) in enumerate(zip(played.delivered_by_day, played.deferred_by_day, strict=True)):
        x = LEFT + day * step
        for offset, count, colour in ((0.1, taken, TAKEN), (0.55, put_off, PUT_OFF)):
            height = full * min(count, top) / top
            left, wide = x + offset * step, 0.4 * step
            box = f'x="{left:.1f}" y="{base - height:.1f}" width="{wide:.1f}" height="{height:.1f}"'
            bars.append(f'<rect {box} fill="{colour}"/>')
    line = base - full * played.target / top
    marks = "".join(
        f'<text x="{LEFT - 8}" y="{base - full * part:.0f}" text-anchor="end" dominant-baseline="middle">{round(top * part):,}</text>'
        for part in (0, 0.5, 1)
    )
    every = max(1, days // 12)
    numbers = "".join(
        f'<text x="{LEFT + (day + 0.5) * step:.1f}" y="{base + 18}" text-anchor="middle">{day + 1}</text>'
        for day in range(0, days, every)
    )
    reached = played.days_to_target
    words = f"target reached on day {reached}" if reached else f"target not reached in {days} days"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' font-family="sans-serif" font-size="12" fill="{SOFT}">'
        f"<title>{escape(title)}: {words}</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="600" fill="{INK}">{escape(title)}: {words}</text>'
        f'<rect x="{WIDTH - 330}" y="32" width="10" height="10" fill="{TAKEN}"/><text x="{WIDTH - 315}" y="41">delivered</text>'
        f'<rect x="{WIDTH - 245}" y="32" width="10" height="10" fill="{PUT_OFF}"/><text x="{WIDTH - 230}" y="41">deferred</text>'
        f'<line x1="{WIDTH - 165}" y1="37" x2="{WIDTH - 150}" y2="37" stroke="{WANTED}" stroke-dasharray="4 3"/>'
        f'<text x="{WIDTH - 144}" y="41">wanted a day</text>'
        f"{''.join(bars)}"
        f'<line x1="{LEFT}" y1="{line:.1f}" x2="{WIDTH - 20}" y2="{line:.1f}" stroke="{WANTED}" stroke-dasharray="4 3"/>'
        f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - 20}" y2="{base}" stroke="{SOFT}"/>{marks}{numbers}'
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">day</text></svg>'
    )
