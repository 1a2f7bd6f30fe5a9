"""Plots as inline SVG: no scripts, no resources; colours are CSS classes, so that the page's light and dark schemes apply."""
import math
from html import escape

COLOURS = 10  # classes c0…c9 and `floor`; the style sheet below
STYLE = """
.plot { font: 12px system-ui, sans-serif; fill: var(--ink); }
.plot .grid { stroke: var(--line); stroke-width: 1; }
.plot .soft { fill: var(--soft); }
.plot .name { font-size: 13px; }
.plot path, .plot line { fill: none; }
.plot .mark { stroke: var(--paper); stroke-width: 1.5; }
:root { --paper: #ffffff; --ink: #1c2024; --soft: #5d6670; --line: #dfe3e8; --c0: #d1440c; --c1: #b8860b; --c2: #8e3b9b; --c3: #0f6fb8;
  --c4: #0a7d5e; --c5: #5b6bbf; --c6: #b0456f; --c7: #3c8fa0; --c8: #7a6a4f; --c9: #6c7a3c; --floor: #1c2024; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e9ec; --soft: #9aa4ae; --line: #30363d; --c0: #ff8350;
  --c1: #e3b341; --c2: #d39be0; --c3: #6cb6ff; --c4: #4fd1a5; --c5: #a5b4fc; --c6: #f49ac1; --c7: #7fd4e4; --c8: #cbb994;
  --c9: #bfd07a; --floor: #e6e9ec; } }
""" + "\n".join(f".plot .{c} {{ fill: var(--{c}); }} .plot path.{c}, .plot line.{c} {{ stroke: var(--{c}); fill: none; }}"
                for c in [*(f"c{i}" for i in range(COLOURS)), "floor"])
DASHES = ("", "6 3", "2 3", "8 3 2 3")


def number(value):
    """Three digits at the most, no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.3g}"


def duration(us):
    """Microseconds in the unit that people would say."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{number(us / size)} {unit}"
    return f"{number(us)} µs"


def times(value):
    return f"{number(value)} ×"


class Axis:
    """A scale from values to pixels. Logarithmic ones begin and end at 1, 2 or 5 times a power of ten."""

    def __init__(self, values, first, last, log=False, zero=False):
        values = [v for v in values if v is not None and (v > 0 or not log)]
        low, high = (min(values), max(values)) if values else (1, 10)
        self.log, self.first, self.last = log, first, last
        if log:
            self.ticks = [m * 10 ** e for e in range(-3, 12) for m in (1, 2, 5)]
            below, above = [t for t in self.ticks if t <= low] or [low], [t for t in self.ticks if t >= high] or [high]
            self.low, self.high = below[-1], max(above[0], below[-1] * 2)
            self.ticks = [t for t in self.ticks if self.low <= t <= self.high]
            while len(self.ticks) > 9:
                self.ticks = [t for t in self.ticks if f"{t:e}".startswith("1.")] if len(self.ticks) > 14 else self.ticks[::2]
        else:
            self.low = 0 if zero else low
            step = self.step((high - self.low) or 1)
            self.high = self.low + step * math.ceil(((high - self.low) or 1) / step - 1e-9)
            self.ticks = [self.low + step * i for i in range(round((self.high - self.low) / step) + 1)]

    @staticmethod
    def step(span):
        power = 10 ** math.floor(math.log10(span / 5))
        return next(m * power for m in (1, 2, 5, 10) if m * power * 5 >= span * 0.999)

    def at(self, value):
        if self.log:
            part = (math.log(max(value, self.low)) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.first + part * (self.last - self.first)


def text(x, y, words, anchor="start", cls=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{cls}">{escape(str(words))}</text>'


def line(x1, y1, x2, y2, cls, width=1, extra=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}" stroke-width="{width}" {extra}/>'


def dot(x, y, cls, title, radius=5):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{cls} mark"><title>{escape(title)}</title></circle>'


def svg(width, height, parts, label, standalone=False):
    style = f"<style>{STYLE} .paper {{ fill: var(--paper); }}</style><rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>" if standalone else ""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width} {height}" width="{width}" role="img" '
            f'aria-label="{escape(label, quote=True)}">{style}{"".join(parts)}</svg>')


def ranges(rows, label, standalone=False, width=820, caption=""):
    """rows: (name, cls, p50, p99, remark) in multiples of posix_spawn: a dot at p50, a line to p99. The remark stands at the right."""
    left, right, top, step = 196, 176, 34 if caption else 14, 28
    height = top + step * len(rows) + 42
    axis = Axis([v for row in rows for v in row[2:4]], left, width - right, log=True)
    bottom = top + step * len(rows)
    parts = [text(12, 20, caption, cls="name")] if caption else []
    for tick in axis.ticks:
        parts += [line(axis.at(tick), top, axis.at(tick), bottom, "grid"), text(axis.at(tick), bottom + 16, times(tick), "middle", "soft")]
    for i, (name, cls, p50, p99, remark) in enumerate(rows):
        y = top + step * (i + 0.5)
        parts += [text(left - 10, y + 4, name, "end", "name"), line(axis.at(p50), y, axis.at(p99), y, cls, 3, 'stroke-linecap="round" opacity="0.55"'),
                  dot(axis.at(p50), y, cls, f"{name}: p50 {times(p50)}, p99 {times(p99)}", 6), text(width - right + 12, y + 4, remark, cls="name")]
    parts.append(text((left + width - right) / 2, bottom + 34, "times posix_spawn + wait of the same program in the same run (logarithmic): dot p50, line to p99", "middle", "soft"))
    return svg(width, height, parts, label, standalone)


def legend(series, left, width):
    """Return: SVG parts and the height they take."""
    parts, x, y = [], left, 14
    for i, (name, cls, _) in enumerate(series):
        length = 34 + 7.2 * len(name)
        if x + length > width and x > left:
            x, y = left, y + 18
        parts += [line(x, y - 4, x + 20, y - 4, cls, 2.5, f'stroke-dasharray="{DASHES[i // 3 % 4]}"'), text(x + 25, y, name)]
        x += length
    return parts, y + 10


def frame(x_axis, y_axis, x_name, y_name, x_text, y_text):
    left, right, top, bottom = x_axis.first, x_axis.last, y_axis.last, y_axis.first
    parts = []
    for tick in y_axis.ticks:
        parts += [line(left, y_axis.at(tick), right, y_axis.at(tick), "grid"), text(left - 6, y_axis.at(tick) + 4, y_text(tick), "end", "soft")]
    room = math.inf  # up to the label at the right
    for tick in sorted(x_axis.ticks, reverse=True):
        at, words = x_axis.at(tick), x_text(tick)
        parts.append(line(at, bottom, at, bottom + 4, "grid"))
        if at + 4 * len(words) < room:
            parts.append(text(at, bottom + 18, words, "middle", "soft"))
            room = at - 4 * len(words) - 4
    parts += [text((left + right) / 2, bottom + 36, x_name, "middle", "soft"), text(left - 44, top - 14, y_name, "start", "soft")]
    return parts


def lines(series, label, x_name, y_name, x_log=False, y_log=False, x_text=number, y_text=number, width=400, height=260, ticks=None):
    """series: (name, cls, [(x, y)]): a line with dots for each."""
    series = [s for s in series if s[2]]
    if not series:
        return ""
    left, head = 62, legend(series, 62, width) if len(series) > 1 else ([], 8)
    top = head[1] + 26
    xs, ys = [x for _, _, p in series for x, _ in p], [y for _, _, p in series for _, y in p]
    x_axis = Axis(xs, left, width - 28, log=x_log)
    y_axis = Axis(ys, top + height - 60, top, log=y_log, zero=not y_log)
    if ticks:
        x_axis.ticks = ticks
    parts = list(head[0]) + frame(x_axis, y_axis, x_name, y_name, x_text, y_text)
    for i, (name, cls, points) in enumerate(series):
        path = " ".join(f"{'L' if n else 'M'}{x_axis.at(x):.1f} {y_axis.at(y):.1f}" for n, (x, y) in enumerate(points))
        parts.append(f'<path d="{path}" class="{cls}" stroke-width="2" stroke-dasharray="{DASHES[i // 3 % 4]}"/>')
        parts += [dot(x_axis.at(x), y_axis.at(y), cls, f"{name}: {x_text(x)}: {y_text(y)}", 4) for x, y in points]
    return svg(width, top + height - 16, parts, label)


QUANTILES = (0, 0.5, 0.9, 0.99, 0.999)


def depth(q):
    """Where a quantile stands: each further nine takes as much room as the last."""
    return -math.log10(max(1 - q, 0.0005))


def distributions(series, label, width=820, height=380):
    """series: (name, cls, [(quantile, multiple of posix_spawn)]): latency logarithmic from left to right, quantiles upwards with room for the tail."""
    series = [s for s in series if s[2]]
    if not series:
        return ""
    left, head = 62, legend(series, 62, width)
    top = head[1] + 26
    x_axis = Axis([x for _, _, points in series for _, x in points], left, width - 24, log=True)
    y_axis = Axis([0, depth(0.9995)], top + height - 60, top)
    y_axis.low, y_axis.high, y_axis.ticks = 0, depth(0.9995), [depth(q) for q in QUANTILES]
    names = {depth(q): f"{q * 100:g} %" for q in QUANTILES}
    parts = list(head[0]) + frame(x_axis, y_axis, "times posix_spawn + wait at its p50 (logarithmic)", "share of runs that took no longer", times, lambda tick: names[tick])
    for i, (name, cls, points) in enumerate(series):
        path = " ".join(f"{'L' if n else 'M'}{x_axis.at(x):.1f} {y_axis.at(depth(q)):.1f}" for n, (q, x) in enumerate(points))
        parts.append(f'<path d="{path}" class="{cls}" stroke-width="2" stroke-dasharray="{DASHES[i // 3 % 4]}"><title>{escape(name)}</title></path>')
    return svg(width, top + height - 16, parts, label)
