"""`stillhouse serve`: NiceGUI's pages and plain ones, behind the guard."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from stillhouse import reporting
from stillhouse.core.errors import UserError, require
from stillhouse.core.estimate import minutes
from stillhouse.core.trial import Choice, Input, Number, Ready, Slide
from stillhouse.reporting.numbers import significant
from stillhouse.reporting.page import templates
from stillhouse.reporting.shelf import Entry, Progress, Shelf, progress_of
from stillhouse.serving.guard import Guard, is_loopback
from stillhouse.serving.listing import Asked, list_html
from stillhouse.serving.pages import POLICY, comparison_html, message_html, report_html, run_html, title_of
from stillhouse.serving.trying import DONE, Bench, output_html, trials_of

REFRESH_SECONDS = 2.0
SLIDE_SECONDS = 0.15
"""A slider that moves asks again this often at most, and once more when it rests."""
SLIDE_STEPS = 200
LOSS_COLOURS = ["#b04a1a", "#1f6f8b", "#6b7a1e", "#7a4a9c", "#a8336a", "#2f5fb3"]


def serve(folder: Path, host: str, port: int, token: str | None) -> None:
    """Show the runs of a folder until Ctrl-C.

    Raises:
        UserError: no such folder, a bad port, or the extra is not installed.
    """
    shelf = Shelf(folder)
    require(0 < port < 65536, f"port {port}", "use one from 1 to 65535")
    os.environ.setdefault("NICEGUI_STORAGE_PATH", str(Path(tempfile.gettempdir()) / "stillhouse-serve"))
    try:
        from nicegui import app, ui
    except ModuleNotFoundError as error:
        raise UserError(f"the page needs the package {error.name!r}", "pip install 'stillhouse[serve]'") from error
    if not is_loopback(host):
        token = token or secrets.token_urlsafe(24)
    app.add_middleware(Guard, token=token)
    ui.add_css(stylesheet(), shared=True)
    add_plain_pages(app, shelf)
    Pages(ui, shelf)
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else f'[{host}]' if ':' in host else host}:{port}/"
    print(f"stillhouse: {address}{f'?token={token}' if token else ''}  (Ctrl-C ends it)", flush=True)
    ui.run(
        host=host,
        port=port,
        title="stillhouse",
        show=False,
        reload=False,
        show_welcome_message=False,
        language="en-US",
        favicon="🥃",
        dark=None,
        uvicorn_logging_level="warning",
    )


def add_plain_pages(app: Any, shelf: Shelf) -> None:
    """Report and comparison: whole pages without scripts."""
    from fastapi import Query
    from fastapi.responses import HTMLResponse

    def answer(make: Callable[[], str], title: str) -> HTMLResponse:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        try:
            return HTMLResponse(make(), headers=headers)
        except UserError as error:
            return HTMLResponse(message_html(title, error), status_code=404, headers=headers)

    def report(name: str) -> HTMLResponse:
        return answer(lambda: report_html(shelf, name), "No report")

    def compare(run: list[str] = Query(default=[])) -> HTMLResponse:  # noqa: B008 (FastAPI's way)
        return answer(lambda: comparison_html(shelf, run), "Nothing to compare")

    app.get("/report/{name}")(report)
    app.get("/compare")(compare)


class Pages:
    """The pages that change while they are looked at."""

    def __init__(self, ui: Any, shelf: Shelf) -> None:
        self.ui, self.shelf, self.bench = ui, shelf, Bench()
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trial")
        ui.page("/", title="Runs, stillhouse")(self.listing)
        ui.page("/run/{name}", title="Run, stillhouse")(self.run)
        ui.page("/run/{name}/try/{word}", title="Try it, stillhouse")(self.trial)

    async def in_worker(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call it in the thread that models are used in."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, function, *args)

    def html(self, text: str) -> Any:
        """A fragment whose values are escaped already."""
        return self.ui.html(text, sanitize=False).classes("fragment")

    def listing(self, text: str = "", method: str = "", state: str = "", page: int = 1) -> None:
        """All runs, those at work with their progress."""
        entries = self.shelf.entries()
        with self.main():
            self.html(list_html(self.shelf, Asked(text[:100], method[:50], state[:20], page), entries))
            at_work = self.html("")
            if any(entry.state == "running" for entry in entries):
                self.ui.timer(REFRESH_SECONDS, lambda: at_work.set_content(at_work_html(self.shelf)))

    def main(self) -> Any:
        """The page's one landmark for content."""
        self.ui.colors(primary="#9c4318")
        return self.ui.element("main").props("id=content")

    def left(self) -> bool:
        """Whether the visitor of the page at hand has gone, so that there is nothing more to show."""
        return bool(self.ui.context.client.is_deleted)

    async def run(self, name: str) -> None:
        """One run: live, finished, stopped or broken."""
        with self.main():
            try:
                entry = self.shelf.find(name)
            except UserError as error:
                self.html(
                    str(
                        Markup('<header><h1>No such run</h1><p class="warning" role="alert">{}</p></header>').format(
                            error
                        )
                    )
                )
                return
            self.html(run_html(entry))
            if entry.state == "running":
                self.live(entry)
            if entry.state == "finished":
                offered = self.ui.element("section").props("id=try aria-live=polite")
                await self.ui.context.client.connected()
                trials = await self.in_worker(trials_of, entry.method)
                if self.left():
                    return
                with offered:
                    self.html(try_links(entry, {word: (t.title, t.about) for word, t in trials.items()}))

    def live(self, entry: Entry) -> None:
        """Loss, speed and time left of a run at work, every two seconds."""
        with self.ui.element("section").props("id=live"):
            self.html("<h2>At work</h2>")
            words = self.html("").props("role=status")
            bar = self.ui.linear_progress(0, show_value=False).props('aria-label="updates of this stage"')
            chart = (
                self.ui.echart(chart_options(None), renderer="svg")
                .classes("live-chart")
                .props('role=img aria-label="losses"')
            )

            def update() -> None:
                now = self.shelf.find(entry.name)
                progress = progress_of(entry.folder)
                words.set_content(progress_html(progress, now))
                if progress:
                    bar.set_value(progress.update / progress.updates if progress.updates else 0)
                    chart.options.update(chart_options(progress))
                    chart.update()
                if now.state != "running":
                    timer.deactivate()

            timer = self.ui.timer(REFRESH_SECONDS, update)
            update()

    async def trial(self, name: str, word: str) -> None:
        """Inputs, a button, and what the model answers."""
        with self.main():
            head = self.html(
                str(
                    Markup(
                        '<header><p class="eyebrow"><a href="/run/{}">{}</a></p><h1>Opening the model</h1></header>'
                    ).format(quote(name), name)
                )
            )
            place = self.ui.element("div")
            await self.ui.context.client.connected()
            try:
                entry = self.shelf.find(name)
                require(entry.state == "finished", f"{name} is {entry.state}", "try a finished run")
                trial, ready = await self.in_worker(self.bench.open, entry.folder, entry.method, word)
                if self.left():
                    return
            except UserError as error:
                head.set_content(
                    str(
                        Markup(
                            '<header><h1>Cannot be tried</h1><p class="warning" role="alert">{}</p></header>'
                        ).format(error)
                    )
                )
                return
            head.set_content(
                str(
                    Markup(
                        '<header><p class="eyebrow"><a href="/run/{}">{}</a></p><h1>{}</h1><p class="intro">{} {}.</p></header>'
                    ).format(quote(name), name, trial.title, trial.about, title_of(entry.method))
                )
            )
            with place:
                self.form(ready)

    def form(self, ready: Ready) -> None:
        """The inputs and the answers below them."""
        with self.ui.element("div").classes("inputs"):
            widgets = {name: self.widget(kind) for name, kind in ready.inputs.items()}
            button = self.ui.button("Go").props("no-caps")
        trouble = self.html("").props("role=alert")
        answers = self.ui.element("div").classes("answers").props("aria-live=polite")

        async def answer(given: dict[str, Any]) -> None:
            trouble.set_content("")
            try:
                made = await self.in_worker(self.bench.start, ready, given)
                answers.clear()
                while (output := await self.in_worker(self.bench.following, made)) is not DONE:
                    if self.left():
                        return
                    with answers:
                        self.html(output_html(output))
            except UserError as error:
                answers.clear()
                trouble.set_content(str(Markup('<p class="warning">{}</p>').format(error)))

        async def go() -> None:
            if not button.enabled:  # it answers already, and then sees what has moved since
                return
            button.disable()
            given = None
            while not self.left() and given != (now := {name: widget.value for name, widget in widgets.items()}):
                await answer(given := now)
            if not self.left():
                button.enable()

        button.on_click(go)
        for name, kind in ready.inputs.items():
            if isinstance(kind, Slide):
                widgets[name].on("update:model-value", go, throttle=SLIDE_SECONDS)

    def widget(self, kind: Input) -> Any:
        """The control of an input, with its bounds."""
        if isinstance(kind, Slide):
            return self.slider(kind)
        if isinstance(kind, Number):
            return self.ui.number(
                kind.title, value=kind.default, min=kind.low, max=kind.high, step=1 if kind.whole else None
            ).props("outlined dense")
        if isinstance(kind, Choice):
            return self.ui.select(list(kind.options), label=kind.title, value=kind.default).props("outlined dense")
        area = self.ui.textarea if kind.lines > 1 else self.ui.input
        return area(kind.title, value=kind.default).props(f"outlined dense maxlength={kind.most}").classes("wide")

    def slider(self, kind: Slide) -> Any:
        """A slider under its title and value."""
        step = 1 if kind.whole else (kind.high - kind.low) / SLIDE_STEPS
        with self.ui.element("div").classes("wide"):
            told = self.ui.label()
            made = self.ui.slider(min=kind.low, max=kind.high, step=step, value=kind.default)
            made.props["aria-label"] = kind.title
            told.bind_text_from(made, "value", lambda value: f"{kind.title}: {significant(value)}")
        return made


def stylesheet() -> str:
    """The reports' own style, and what only the page needs."""
    return str(templates().globals["style"]) + (Path(reporting.__file__).parent / "templates" / "serve.css").read_text(
        "utf-8"
    )


def try_links(entry: Entry, trials: dict[str, tuple[str, str]]) -> str:
    """Links to what can be tried with a run."""
    if not trials:
        return ""
    items = Markup("").join(
        Markup('<li><a href="/run/{}/try/{}">{}</a> {}</li>').format(quote(entry.name), word, title, about)
        for word, (title, about) in trials.items()
    )
    return str(Markup('<h2>Try it</h2><ul class="notes">{}</ul>').format(items))


def at_work_html(shelf: Shelf) -> str:
    """A line for every run at work."""
    lines = [
        Markup('<li><a href="/run/{}">{}</a>: {}</li>').format(
            quote(e.name), e.name, progress_words(progress_of(e.folder))
        )
        for e in shelf.entries()
        if e.state == "running"
    ]
    return str(
        Markup('<section><h2>At work now</h2><ul class="notes">{}</ul></section>').format(Markup("").join(lines))
    )


def progress_words(progress: Progress | None) -> str:
    """Stage, updates, speed, time left, losses, in a sentence."""
    if progress is None:
        return "no update yet"
    parts = [
        f"{progress.stage}, update {progress.update:,}" + (f" of {progress.updates:,}" if progress.updates else "")
    ]
    if progress.per_second:
        parts.append(f"{significant(progress.per_second)} updates/s")
    if progress.seconds_left is not None:
        parts.append(f"about {minutes(progress.seconds_left)} left in this stage")
    parts += [f"{name.replace('_', ' ')} {significant(value)}" for name, value in progress.losses.items()]
    return ", ".join(parts)


def progress_html(progress: Progress | None, entry: Entry) -> str:
    """The same, with the newest metrics, and what became of the run."""
    text = Markup("<p>{}</p>").format(progress_words(progress))
    if progress and progress.evaluation:
        told = ", ".join(
            f"{name.replace('_', ' ')} {significant(value)}" for name, value in progress.evaluation.items()
        )
        text += Markup("<p>Measured on the way: {}</p>").format(told)
    if entry.state != "running":
        text += Markup('<p><a href="/run/{}">It is {} now: see it</a></p>').format(quote(entry.name), entry.state)
    return str(text)


def chart_options(progress: Progress | None) -> dict[str, Any]:
    """Losses over the updates of a stage, for ECharts."""
    curves = progress.curves if progress else {}
    return {
        "animation": False,
        "color": LOSS_COLOURS,
        "aria": {"enabled": True},
        "grid": {"left": 60, "right": 20, "top": 40, "bottom": 45},
        "legend": {"textStyle": {"color": "#808080"}},
        "xAxis": {
            "type": "value",
            "name": "Updates",
            "nameLocation": "middle",
            "nameGap": 28,
            "min": "dataMin",
            "max": "dataMax",
        },
        "yAxis": {"type": "value", "scale": True},
        "series": [
            {
                "type": "line",
                "name": name.replace("_", " "),
                "showSymbol": False,
                "data": [list(point) for point in points],
            }
            for name, points in curves.items()
        ],
    }
