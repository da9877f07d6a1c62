"""Someone at a browser: signs in, looks, clicks. What the browser complains of fails the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Response, expect

from tests.serving import Clients

AXE = Path(__file__).parent / "axe.min.js"
RULES_OF_COLOURS = ["color-contrast", "link-in-text-block"]
RUN_AXE = """
(options) => {
  const light = axe._audit.rules.filter((rule) => ["minor", "moderate"].includes(rule.impact));
  const rules = Object.fromEntries(light.map((rule) => [rule.id, { enabled: false }]));
  return axe.run(document, { resultTypes: ["violations"], rules, ...options })
    .then((found) => found.violations);
}"""
"""Without the rules whose violations are less than serious."""

THIN = r"""
() => {
  const words = / (id|href|value|title|datetime|aria-label|data-[\w-]+|hx-[\w-]+)="[^"]+"/g;
  const shapes = new Map();
  for (const row of document.querySelectorAll("tbody > tr, #happened > li, #column-list > li")) {
    const shape = row.outerHTML.replace(/>[^<]+/g, ">x").replace(words, ' $1="x"');
    shapes.set(shape, (shapes.get(shape) ?? 0) + 1);
    if (shapes.get(shape) > 2) row.remove();
  }
}"""
SECONDS = 30_000
WIDE, NARROW = 1280, 390
HEIGHT = 800


Scheme = Literal["light", "dark"]


def window(browser: Browser, url: str, **options: Any) -> Page:
    """A window of its own: with no cookie, nothing in its cache, and open to no address yet.

    Args:
        url: of the server that paths are below.
    """
    context = browser.new_context(
        base_url=url, reduced_motion="reduce", accept_downloads=True, **options
    )
    context.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    return context.new_page()


class Windows:
    """Windows that one reader uses after another, as to open one takes longer than most pages. Who
    comes next finds no cookie in it, but what may be cached for ever."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._idle: dict[str, list[Page]] = {}

    def take(self, url: str) -> Page:
        idle = self._idle.get(url)
        return idle.pop() if idle else window(self._browser, url)

    def give_back(self, url: str, page: Page) -> None:
        page.unroute_all()
        page.context.clear_cookies()
        page.context.clear_permissions()
        self._idle.setdefault(url, []).append(page)


class Reader:
    """
    Args:
        scope: of the key that it signs in with; None: it does not.
        path: of its first page; None: there is none yet.

    Attributes:
        refused: statuses of 400 and more that the test means to see.
    """

    def __init__(
        self,
        page: Page,
        clients: Clients,
        scope: str | None,
        *,
        width: int = WIDE,
        scheme: Scheme = "light",
        path: str | None = "/console/users",
    ) -> None:
        self.clients = clients
        self.refused: set[int] = set()
        self.page = page
        self.context = page.context
        self.resize(width)
        page.emulate_media(color_scheme=scheme)
        self.complaints: list[str] = []
        self.answers: list[Response] = []
        page.on("console", self._said)
        page.on("pageerror", self._failed)
        page.on("response", self._answered)
        if scope is not None:
            key = {"key": clients.keys[scope]}
            answer = self.context.request.post("/console/sign-in", form=key, max_redirects=0)
            assert answer.status == 303
        if path is not None:
            self.go(path)

    def sign_in(self, key: str) -> None:
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/console/users")
        self.settle()

    def go(self, path: str) -> None:
        self.page.goto(path)
        self.settle()

    def follow(self, there: Locator) -> None:
        """Clicks on what leads to another page, and waits until that is there."""
        with self.page.expect_navigation():
            there.click()
        self.settle()

    def settle(self) -> None:
        """Waits for what the page loads by itself, and for what was just asked of it."""
        self.page.wait_for_load_state()
        self.page.locator(".htmx-request").first.wait_for(state="detached")

    def leave(self) -> None:
        """Looks at nothing any more; the window stays."""
        self.page.goto("about:blank")
        self.page.remove_listener("console", self._said)
        self.page.remove_listener("pageerror", self._failed)
        self.page.remove_listener("response", self._answered)

    def _answered(self, answer: Response) -> None:
        self.answers.append(answer)

    def _failed(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def assert_no_complaints(self) -> None:
        """Nothing that failed, was blocked by the policy, or was refused unexpectedly."""
        seen = {one.status for one in self.answers if one.status >= 400}
        assert seen <= self.refused, [one.url for one in self.answers if one.status >= 400]
        expected = ("Failed to load resource", "Response Status Error Code")
        left = [one for one in self.complaints if not (seen and one.startswith(expected))]
        assert left == []

    @property
    def query(self) -> dict[str, list[str]]:
        """What stands in the address bar."""
        return parse_qs(urlsplit(self.page.url).query, keep_blank_values=True)

    @property
    def path(self) -> str:
        return urlsplit(self.page.url).path

    def names(self) -> list[str]:
        """The first column of the list."""
        return self.page.locator("#results tbody th").all_inner_texts()

    def titles(self) -> list[str]:
        """The columns' heads."""
        heads = self.page.locator("#results thead th[scope=col]").all_inner_texts()
        return [one.removesuffix("↓").removesuffix("↑").strip() for one in heads]

    def cells(self, title: str) -> list[str]:
        n = self.titles().index(title)
        offset = self.page.locator("#results thead th.pick").count()
        cells = self.page.locator(f"#results tbody tr > :nth-child({n + 1 + offset})")
        return cells.all_inner_texts()

    def shows(self, text: str) -> Locator:
        found = self.page.get_by_text(text).first
        expect(found).to_be_visible()
        return found

    def violations(self) -> list[str]:
        """What axe-core finds that is serious or worse."""
        return self._violations({})

    def violations_in_both_schemes(self) -> list[str]:
        """The same, and what axe-core finds of the colours in dark: a scheme changes no more."""
        found = self.violations()
        self.page.emulate_media(color_scheme="dark")
        found += self._violations({"runOnly": {"type": "rule", "values": RULES_OF_COLOURS}})
        self.page.emulate_media(color_scheme="light")
        return found

    def _violations(self, options: dict[str, Any]) -> list[str]:
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())
        # What waits for an answer is paler until it is there.
        expect(self.page.locator(".htmx-request")).to_have_count(0)
        found = self.page.evaluate(RUN_AXE, options)
        return [
            f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for one in found
            for node in one["nodes"]
        ]

    def thin(self) -> None:
        """Takes rows out of the page that differ from two others in their words alone: axe-core
        looks at each element, and would find in them what it finds in these."""
        self.page.evaluate(THIN)

    def resize(self, width: int) -> None:
        self.page.set_viewport_size({"width": width, "height": HEIGHT})

    def overflows_at(self, width: int) -> bool:
        self.resize(width)
        return self.overflows()

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        wide: bool = self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return wide
