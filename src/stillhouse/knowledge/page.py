"""A page to look at a neighbourhood: a picture of the edges, and under each the sentences it comes from, highlighted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup, escape

from stillhouse.knowledge.documents import Span
from stillhouse.knowledge.queries import Edge, Finding

WIDTH, HEIGHT = 900, 560


@dataclass(frozen=True)
class Shown:
    """An edge with its sentences."""

    edge: Edge
    findings: tuple[Finding, ...]

    @property
    def says(self) -> str:
        """The relation in words."""
        return self.edge.label.replace("_", " ").lower()


TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.5rem} h2{font-size:1.05rem;margin:1.6rem 0 .3rem} svg{width:100%;height:auto}
.q{margin:.4rem 0 .4rem 1rem;padding-left:.8rem;border-left:3px solid #d5dae3} .q.no{border-color:#c0392b}
mark.s{background:#ffe2a8} mark.o{background:#bfe3ff} small{color:#566070} code{font-size:.85em}
text{font:13px system-ui,sans-serif;fill:#1c2430} .r{font-size:11px;fill:#566070}
</style></head><body>
<h1>{{ name }}</h1>
<p>{{ shown|length }} edges{% if left %}, {{ left }} more not shown{% endif %}; the thicker a line, the surer the edge.
A confidence is the chance that at least one document behind the edge is read rightly.</p>
<svg viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="{{ name }} and its neighbours">
{% for p in places %}<line x1="{{ cx }}" y1="{{ cy }}" x2="{{ p.x }}" y2="{{ p.y }}" stroke="#7a8699" stroke-width="{{ p.thick }}"/>{% endfor %}
{% for p in places %}<circle cx="{{ p.x }}" cy="{{ p.y }}" r="7" fill="#2b6cb0"/>
<text x="{{ p.tx }}" y="{{ p.ty }}" text-anchor="{{ p.anchor }}">{{ p.name }}</text>
<text class="r" x="{{ p.tx }}" y="{{ p.ty + 13 }}" text-anchor="{{ p.anchor }}">{{ p.says }}</text>{% endfor %}
<circle cx="{{ cx }}" cy="{{ cy }}" r="11" fill="#c0562b"/><text x="{{ cx }}" y="{{ cy - 16 }}" text-anchor="middle" font-weight="bold">{{ name }}</text>
</svg>
{% for s in shown %}<h2 id="{{ s.edge.id }}">{{ s.edge.subject_name }} – {{ s.says }} – {{ s.edge.object_name }}</h2>
<small>confidence {{ '%.2f'|format(s.edge.confidence) }}, {{ s.edge.support }} document{{ '' if s.edge.support == 1 else 's' }}{% if s.edge.denied %},
denied by {{ s.edge.denied }} sentence{{ '' if s.edge.denied == 1 else 's' }}{% endif %}; biolink:{{ s.edge.predicate }};
<code>{{ s.edge.subject }}</code> <code>{{ s.edge.object }}</code>; edge <code>{{ s.edge.id }}</code></small>
{% for f in s.findings %}<p class="q{{ ' no' if f.negated }}">{{ sentence(f) }}<br><small>{{ f.document }}, from character {{ f.offset }};
{{ f.extractor }}, probability {{ '%.2f'|format(f.probability) }}{{ ', hedged' if f.hedged }}{{ ', denied' if f.negated }}</small></p>{% endfor %}
{% endfor %}</body></html>
"""


def sentence_html(finding: Finding) -> Markup:
    """The sentence with its two mentions marked; everything else escaped."""
    made, last = Markup(""), 0
    places: list[tuple[Span, str]] = sorted([(finding.subject, "s"), (finding.object, "o")])
    for (start, end), kind in places:
        if start < last:
            continue
        made += escape(finding.sentence[last:start]) + Markup('<mark class="{}">{}</mark>').format(
            kind, finding.sentence[start:end]
        )
        last = end
    return made + escape(finding.sentence[last:])


def neighbourhood_page(name: str, centre: str, shown: Sequence[Shown], left: int = 0) -> str:
    """The page of a concept.

    Args:
        name: what it is called.
        centre: its id.
        shown: its edges.
        left: how many edges it has beside those.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE).render(
        name=name,
        shown=shown,
        left=left,
        places=[_place(i, len(shown), s, centre) for i, s in enumerate(shown)],
        width=WIDTH,
        height=HEIGHT,
        cx=WIDTH // 2,
        cy=HEIGHT // 2,
        sentence=sentence_html,
    )


def _place(i: int, n: int, shown: Shown, centre: str) -> dict[str, object]:
    """Where a neighbour is drawn; every second one nearer, so that their names do not meet."""
    turn = 2 * math.pi * i / max(1, n) - math.pi / 2
    reach = 1.0 if i % 2 == 0 or n < 9 else 0.66
    x = WIDTH / 2 + reach * 0.36 * WIDTH * math.cos(turn)
    y = HEIGHT / 2 + reach * 0.42 * HEIGHT * math.sin(turn)
    right = math.cos(turn) > 0.15
    side = "start" if right else "end" if math.cos(turn) < -0.15 else "middle"
    edge = shown.edge
    name = edge.object_name if edge.subject == centre else edge.subject_name
    return {
        "x": round(x, 1),
        "y": round(y, 1),
        "tx": round(x + (12 if side == "start" else -12 if side == "end" else 0), 1),
        "ty": round(y + (4 if side != "middle" else 22 if math.sin(turn) > 0 else -24), 1),
        "anchor": side,
        "thick": round(1 + 4 * edge.confidence, 1),
        "name": name if len(name) <= 28 else name[:27] + "…",
        "says": shown.says,
    }
